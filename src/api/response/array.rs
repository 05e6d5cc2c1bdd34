//! A JSON array that is made while it is sent.

use super::stream::Pieces;

/// A JSON array of what `write` appends, for as long as it appends something and says so.
pub struct Array<F> {
    write: F,
    /// How many more there may be.
    left: u64,
    began: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> bool> Array<F> {
    /// At most `most` items.
    pub fn new(most: u64, write: F) -> Self {
        Self { write, left: most, began: false }
    }
}

impl<F: FnMut(&mut Vec<u8>) -> bool + Send + 'static> Pieces for Array<F> {
    fn piece(&mut self, out: &mut Vec<u8>) -> bool {
        let (before, began) = (out.len(), std::mem::replace(&mut self.began, true));
        out.push(if began { b',' } else { b'[' });
        if self.left > 0 && (self.write)(out) {
            self.left -= 1;
            return true;
        }
        out.truncate(before + usize::from(!began));
        out.push(b']');
        false
    }
}
