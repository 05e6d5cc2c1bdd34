//! What one source file imports, read from its text.

/// A name that a `use` brings into a module, and the path it stands for.
#[derive(Debug)]
pub struct Binding {
    pub name: String,
    pub path: Vec<String>,
}

/// A source file as far as the layout is concerned. What only tests see (`#[cfg(test)]`) is left out.
#[derive(Debug, Default)]
pub struct Source {
    pub bindings: Vec<Binding>,
    /// Paths in the code and in `use`, as they are written.
    pub paths: Vec<Vec<String>>,
    /// Child modules that exist only under test.
    pub test_modules: Vec<String>,
}

impl Source {
    pub fn read(text: &str) -> Self {
        Self::of_tokens(&tokens(text))
    }

    fn of_tokens(tokens: &[String]) -> Self {
        let mut source = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            at = source.take(tokens, at);
        }
        source
    }

    /// Takes the construct that begins at `at`; where the next one begins.
    fn take(&mut self, tokens: &[String], at: usize) -> usize {
        if starts_with(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            return self.skip_item(tokens, at + 7);
        }
        match tokens[at].as_str() {
            "use" => {
                let end = (at..tokens.len()).find(|&end| tokens[end] == ";").unwrap_or(tokens.len());
                self.take_use(&tokens[at + 1..end], &[]);
                end + 1
            }
            "mod" if starts_with(tokens, at + 2, &["{"]) => {
                let end = after_brackets(tokens, at + 2);
                self.take_inline_module(&tokens[at + 3..end - 1]);
                end
            }
            token if is_name(token) => {
                let mut path = vec![token.to_owned()];
                let mut next = at + 1;
                while starts_with(tokens, next, &["::"]) && tokens.get(next + 1).is_some_and(|token| is_name(token)) {
                    path.push(tokens[next + 1].clone());
                    next += 2;
                }
                if path.len() > 1 {
                    self.paths.push(path);
                }
                next
            }
            _ => at + 1,
        }
    }

    /// Takes a module between braces: its parent is the module of this file.
    fn take_inline_module(&mut self, tokens: &[String]) {
        self.paths.extend(Self::of_tokens(tokens).paths.into_iter().map(|mut path| {
            if starts_with(&path, 0, &["super", "super"]) {
                path.remove(0);
            } else if path[0] == "super" {
                path[0] = "self".to_owned();
            }
            path
        }));
    }

    /// Takes the tree of a `use` whose paths begin with `prefix`.
    fn take_use(&mut self, tree: &[String], prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut rest = tree;
        loop {
            match rest {
                [open, inner @ .., _] if open == "{" => {
                    split(inner).into_iter().for_each(|branch| self.take_use(branch, &path));
                    return;
                }
                [star] if star == "*" => break,
                [colons, after @ ..] if colons == "::" => rest = after,
                [segment, after @ ..] if is_name(segment) => {
                    // `{self}` is the path before it.
                    if segment != "self" || path.is_empty() {
                        path.push(segment.clone());
                    }
                    rest = after;
                    if let [keyword, name] = rest
                        && keyword == "as"
                    {
                        self.bindings.push(Binding { name: name.clone(), path: path.clone() });
                        self.paths.push(path);
                        return;
                    }
                }
                _ => {
                    if let Some(name) = path.last().cloned() {
                        self.bindings.push(Binding { name, path: path.clone() });
                    }
                    break;
                }
            }
        }
        if !path.is_empty() {
            self.paths.push(path);
        }
    }

    /// Skips the item, field or statement at `at`, which only tests see.
    fn skip_item(&mut self, tokens: &[String], mut at: usize) -> usize {
        while starts_with(tokens, at, &["#", "["]) {
            at = after_brackets(tokens, at + 1);
        }
        while starts_with(tokens, at, &["pub"]) {
            at += 1;
            if starts_with(tokens, at, &["("]) {
                at = after_brackets(tokens, at);
            }
        }
        if starts_with(tokens, at, &["mod"]) && starts_with(tokens, at + 2, &[";"]) {
            self.test_modules.push(tokens[at + 1].clone());
        }
        let first = tokens.get(at).map_or("", String::as_str);
        let is_function = starts_with(tokens, at, &["const", "fn"]);
        let (ends_at_comma, ends_at_brace) = match first {
            "use" | "const" | "static" | "type" | "let" if !is_function => (false, false),
            "const" | "fn" | "mod" | "struct" | "enum" | "impl" | "trait" | "async" | "macro_rules" => (false, true),
            _ => (true, true),
        };
        while at < tokens.len() {
            match tokens[at].as_str() {
                ";" => return at + 1,
                "," if ends_at_comma => return at + 1,
                ")" | "]" | "}" => return at,
                "{" if ends_at_brace => return after_brackets(tokens, at),
                "(" | "[" | "{" => at = after_brackets(tokens, at),
                _ => at += 1,
            }
        }
        at
    }
}

fn starts_with(tokens: &[String], at: usize, wanted: &[&str]) -> bool {
    tokens.len() >= at + wanted.len() && tokens[at..].iter().zip(wanted).all(|(token, wanted)| token == wanted)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Where what follows the bracket at `at` and all within it begins.
fn after_brackets(tokens: &[String], at: usize) -> usize {
    let mut depth = 0;
    for (number, token) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return number + 1;
        }
    }
    tokens.len()
}

/// The branches of a `use` between commas.
fn split(tree: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let branches = tree.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token == ","
    });
    branches.filter(|branch| !branch.is_empty()).collect()
}

/// Names, `::`, and single characters; without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if is_name(rest) {
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            // `$crate` is `crate`.
            if !first.is_whitespace() && first != '$' {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string literal that `text` begins with.
fn string(text: &str) -> Option<usize> {
    let start = text.find('"').filter(|&start| start < 20)?;
    let (prefix, hashes) = text[..start].split_at(text[..start].find('#').unwrap_or(start));
    if !matches!(prefix, "" | "b" | "c" | "r" | "br" | "cr") || !hashes.chars().all(|hash| hash == '#') {
        return None;
    }
    let body = &text[start + 1..];
    if prefix.ends_with('r') {
        let end = format!("\"{hashes}");
        return Some(body.find(&end).map_or(text.len(), |at| start + 1 + at + end.len()));
    }
    let mut escaped = false;
    let end = body.find(|next: char| {
        let ends = next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    hashes.is_empty().then_some(end.map_or(text.len(), |at| start + 1 + at + 1))
}

/// The length of the character or lifetime that `text` begins with.
fn character(text: &str) -> usize {
    let body = &text[1..];
    if body.starts_with('\\') {
        return body[2..].find('\'').map_or(text.len(), |end| 1 + 2 + end + 1);
    }
    let first = body.chars().next().map_or(0, char::len_utf8);
    if body[first..].starts_with('\'') { 1 + first + 1 } else { 1 }
}
