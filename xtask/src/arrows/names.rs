//! Which paths a Rust file names: a small scanner, not a parser. It knows comments, strings, use
//! trees and `crate`, `self` and `super`; it does not see through macros, aliases or glob imports.

/// What a file names outside its tests.
pub struct Source {
    /// Each path with `::` in it, in full.
    pub names: Vec<Name>,
    /// Lines on which `unsafe` stands.
    pub unsafe_lines: Vec<usize>,
}

/// A path and where it stands.
#[derive(PartialEq, Eq, Debug)]
pub struct Name {
    /// The path, `crate` and `super` resolved against the file's place.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    /// Scans `text`, the content of `file` (its path in the workspace).
    pub fn read(file: &str, text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let module = module_of(file);
        let mut names = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            at = read_path(&tokens, at, &mut Vec::new(), &mut names);
        }
        for name in &mut names {
            name.path = resolved(&name.path, &module);
        }
        let unsafe_lines = tokens.iter().filter(|token| token.text == "unsafe");
        Self { names, unsafe_lines: unsafe_lines.map(|token| token.line).collect() }
    }
}

/// Splits source text into words and punctuation; drops comments and the content of strings.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let end = end_of_token(text, at);
        let word = &text[at..end];
        let kept = word.starts_with(is_word) || (word.len() <= 2 && !word.trim().is_empty());
        if kept {
            tokens.push(Token { text: word.to_owned(), line });
        }
        line += word.matches('\n').count();
        at = end;
    }
    tokens
}

fn end_of_token(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let length = if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        rest.find("*/").map_or(rest.len(), |end| end + 2)
    } else if let Some(length) = raw_string(rest) {
        length
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if rest.starts_with('\'') {
        character(rest)
    } else if rest.starts_with(is_word) {
        rest.find(|c| !is_word(c)).unwrap_or(rest.len())
    } else if rest.starts_with("::") {
        2
    } else {
        rest.chars().next().map_or(1, char::len_utf8)
    };
    at + length
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a raw string such as `r#"…"#` at the start of `rest`.
fn raw_string(rest: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - after.len() + hashes + 1;
    let length = rest[start..].find(&end).map(|found| start + found + end.len());
    Some(length.unwrap_or(rest.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character such as `'a'` or `'\n'`; a lifetime is its quote alone.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => quoted(rest, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// The tokens before the file's tests, which stand last.
fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let start = tokens
        .windows(MARK.len())
        .position(|window| window.iter().zip(MARK).all(|(token, mark)| token.text == mark));
    tokens.truncate(start.unwrap_or(tokens.len()));
    tokens
}

/// Reads the path or use tree at `at` below `prefix`; returns where reading goes on.
fn read_path(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    names: &mut Vec<Name>,
) -> usize {
    let depth = prefix.len();
    let line = tokens[at].line;
    if tokens[at].text == "::" {
        at += 1;
    }
    while at < tokens.len() && tokens[at].text.starts_with(is_word) {
        prefix.push(tokens[at].text.clone());
        at += 1;
        if !is(tokens, at, "::") {
            break;
        }
        at += 1;
        if is(tokens, at, "{") {
            at = read_tree(tokens, at + 1, prefix, names);
            prefix.truncate(depth);
            return at;
        }
    }
    if prefix.len() > 1 && prefix.len() > depth {
        let path = prefix.join("::");
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        names.push(Name { path, line });
    }
    let read_nothing = prefix.len() == depth;
    prefix.truncate(depth);
    if read_nothing { at + 1 } else { at }
}

fn read_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    names: &mut Vec<Name>,
) -> usize {
    while at < tokens.len() && !is(tokens, at, "}") {
        at = read_path(tokens, at, prefix, names);
        if is(tokens, at, "as") {
            at += 2;
        }
        if is(tokens, at, ",") {
            at += 1;
        }
    }
    at + 1
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// The module that `file` is, such as `crate::plan::pools`.
fn module_of(file: &str) -> Vec<String> {
    let within = file.split_once("/src/").map_or(file, |(_, within)| within);
    let path = within.trim_end_matches(".rs");
    let mut module = vec!["crate".to_owned()];
    module.extend(path.split('/').map(str::to_owned));
    if matches!(path.rsplit('/').next(), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn resolved(path: &str, module: &[String]) -> String {
    let mut base = module.to_vec();
    let mut rest = path;
    if let Some(after) = rest.strip_prefix("self::") {
        rest = after;
    } else if !rest.starts_with("super::") {
        return path.to_owned();
    }
    while let Some(after) = rest.strip_prefix("super::") {
        base.pop();
        rest = after;
    }
    format!("{}::{rest}", base.join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(file: &str, text: &str, expected: &[&str]) {
        let found = Source::read(file, text).names;
        let found: Vec<&str> = found.iter().map(|name| name.path.as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_use_tree_names_each_of_its_leaves() {
        names(
            "lb-userspace/src/plan/mod.rs",
            "use crate::{model::{Cluster, Node as N}, maps::contents::{self, Contents}};",
            &[
                "crate::model::Cluster",
                "crate::model::Node",
                "crate::maps::contents",
                "crate::maps::contents::Contents",
            ],
        );
    }

    #[test]
    fn super_and_self_are_resolved_against_the_file_s_place() {
        let text = "use super::ids; use self::x::Y; use super::super::agent::Z;";
        names(
            "lb-userspace/src/plan/pools.rs",
            text,
            &["crate::plan::ids", "crate::plan::pools::x::Y", "crate::agent::Z"],
        );
        names("lb-userspace/src/plan/mod.rs", "use super::model::A;", &["crate::model::A"]);
    }

    #[test]
    fn paths_in_code_count_and_comments_and_strings_do_not() {
        let text =
            "// std::fs\n/* a::b */ let x: &'static str = \"c::d\"; f::g('\"', r#\"h::\"i\"#);";
        names("xtask/src/main.rs", text, &["f::g"]);
    }

    #[test]
    fn a_name_knows_its_line() {
        let source = Source::read("a/src/b.rs", "\"two\nlines\"\nfn f() { std::fs::read() }");
        assert_eq!(source.names[0].line, 3);
    }

    #[test]
    fn a_lifetime_does_not_begin_a_character() {
        names("a/src/b.rs", "fn f<'a>(x: &'a str) -> u8 { b'\\'' + g::h }", &["g::h"]);
    }
}
