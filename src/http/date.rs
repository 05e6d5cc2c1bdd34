//! The header `Date`, for answers in HTTP/2: hyper's server of HTTP/1.1 has its own.

use std::cell::RefCell;

use axum::http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// The second it is, as headers have it. Written once a second in each thread.
pub(super) fn now() -> Option<HeaderValue> {
    thread_local! {
        static WRITTEN: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = Timestamp::now();
    WRITTEN.with_borrow_mut(|written| match written {
        Some((second, text)) if *second == now.as_second() => Some(text.clone()),
        _ => {
            let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
            let text = HeaderValue::try_from(text).ok()?;
            *written = Some((now.as_second(), text.clone()));
            Some(text)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_standard_has_it() {
        let text = now().unwrap();
        let text = text.to_str().unwrap();
        assert!(text.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len() && text.ends_with(" GMT"), "{text}");
        assert!(&text[3..5] == ", " && &text[16..17] == " ", "{text}");
    }
}
