//! Reads Rust with `syn`. Macros' arguments are not parsed: the paths among their tokens count.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::items::{attributes_of, defined_by, is_for_tests, path_attribute};
use super::source::{Function, Module, Name, Source, Use};

/// Reads `text`, the content of `file`.
pub fn parse(file: &str, text: &str) -> Result<Source> {
    let context = || format!("{file} is not Rust that this check can read");
    let syntax = syn::parse_file(text).with_context(context)?;
    let mut parser = Parser::default();
    parser.visit_file(&syntax);
    let tokens: TokenStream = text.parse().ok().with_context(context)?;
    let mut lines = Vec::new();
    unsafe_lines(tokens, &mut lines);
    lines.dedup();
    lines.retain(|line| !parser.is_in_tests(*line));
    parser.source.unsafe_lines = lines;
    Ok(parser.source)
}

/// What has been read so far.
#[derive(Default)]
struct Parser {
    source: Source,
    /// The lines of what is for tests alone.
    tests: Vec<RangeInclusive<usize>>,
    /// The inline modules around what is being read.
    inside: Vec<String>,
}

impl Parser {
    fn is_in_tests(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }

    fn name(&mut self, path: Vec<String>, line: usize) {
        if !self.is_in_tests(line) {
            self.source.names.push(Name { path, inside: self.inside.clone(), line });
        }
    }

    fn define(&mut self, name: &syn::Ident) {
        self.source.items.push((self.inside.clone(), name.to_string()));
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let line = signature.span().start().line;
        let end = body.brace_token.span.close().end().line;
        let name = signature.ident.to_string();
        self.source.functions.push(Function { name, line, lines: end + 1 - line });
    }

    /// Adds the leaves of a `use` below `prefix`.
    fn leaves(&mut self, tree: &syn::UseTree, prefix: &[String], is_public: bool) {
        let line = tree.span().start().line;
        let leaf = |parser: &mut Self, path: Vec<String>, name: Option<String>| {
            let inside = parser.inside.clone();
            parser.source.uses.push(Use { path, name, is_public, inside, line });
        };
        let with = |last: &syn::Ident| [prefix, &[last.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.leaves(&path.tree, &with(&path.ident), is_public),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.leaves(tree, prefix, is_public));
            }
            syn::UseTree::Glob(_) => leaf(self, prefix.to_vec(), None),
            syn::UseTree::Name(name) if name.ident == "self" => {
                leaf(self, prefix.to_vec(), prefix.last().cloned());
            }
            syn::UseTree::Name(name) => {
                leaf(self, with(&name.ident), Some(name.ident.to_string()));
            }
            syn::UseTree::Rename(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { with(&name.ident) };
                leaf(self, path, Some(name.rename.to_string()));
            }
        }
    }

    /// The paths among the tokens of a macro's call, which are not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 || path.is_empty() {
                        self.end_of_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 || path.first().is_some_and(|name| is_type(name)) {
            self.name(path, line);
        }
    }
}

/// Whether a name is written as types and constants are.
fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_uppercase())
}

fn unsafe_lines(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
            TokenTree::Group(group) if group.delimiter() != Delimiter::None => {
                unsafe_lines(group.stream(), lines);
            }
            TokenTree::Ident(_)
            | TokenTree::Group(_)
            | TokenTree::Punct(_)
            | TokenTree::Literal(_) => {}
        }
    }
}

impl<'ast> Visit<'ast> for Parser {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let span = item.span();
        let line = span.start().line;
        if is_for_tests(attributes_of(item)) {
            self.tests.push(line..=span.end().line);
        }
        if let Some((name, is_type)) = defined_by(item)
            && !self.is_in_tests(line)
        {
            self.define(name);
            if is_type {
                self.source.types.push((name.to_string(), name.span().start().line));
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let name = module.ident.to_string();
        self.source.modules.push(Module {
            path: [self.inside.as_slice(), std::slice::from_ref(&name)].concat(),
            is_inline: module.content.is_some(),
            file: path_attribute(&module.attrs),
            is_test: self.is_in_tests(module.span().start().line),
        });
        self.inside.push(name);
        visit::visit_item_mod(self, module);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !self.is_in_tests(item.span().start().line) {
            let is_public = !matches!(item.vis, syn::Visibility::Inherited);
            self.leaves(&item.tree, &[], is_public);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 || is_type(&parts[0]) {
            self.name(parts, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        // A function of one part; a variable of its name that is called would be rare.
        if let syn::Expr::Path(function) = call.func.as_ref()
            && let Some(name) = function.path.get_ident()
        {
            self.name(vec![name.to_string()], name.span().start().line);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        self.visit_path(attribute.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(text: &str, expected: &[&str]) {
        let source = parse("a/src/b.rs", text).unwrap();
        let mut found: Vec<String> = source.uses.iter().map(|leaf| leaf.path.join("::")).collect();
        found.extend(source.names.iter().map(|name| name.path.join("::")));
        found.retain(|path| path.contains("::"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_use_tree_names_each_of_its_leaves() {
        names(
            "use crate::{model::{Cluster, Node as N}, maps::contents::{self, Contents}, a::*};",
            &[
                "crate::model::Cluster",
                "crate::model::Node",
                "crate::maps::contents",
                "crate::maps::contents::Contents",
                "crate::a",
            ],
        );
    }

    #[test]
    fn paths_in_code_count_and_comments_and_strings_do_not() {
        names(
            "// std::fs\n/* a::b */ fn x() { let x: &'static str = \"c::d\"; f::g('\"', r#\"h::\"i\"#); }",
            &["f::g"],
        );
    }

    #[test]
    fn paths_in_the_arguments_of_a_macro_count() {
        names(
            "fn x() { ensure!(a::b(c) == D::E, \"{}\", f::g::<H>::new()); }",
            &["a::b", "D::E", "f::g"],
        );
    }

    #[test]
    fn a_name_knows_its_line() {
        let text = "const A: &str = \"two\nlines\";\nfn f() { std::fs::read() }";
        let source = parse("a/src/b.rs", text).unwrap();
        assert_eq!(source.names.iter().find(|name| name.path.len() == 3).unwrap().line, 3);
    }

    #[test]
    fn what_is_for_tests_alone_is_left_out_but_for_its_functions_lengths() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n use a::B;\n struct C;\n fn g() {\n }\n}";
        let source = parse("a/src/b.rs", text).unwrap();
        assert!(source.uses.is_empty() && source.types.is_empty());
        assert_eq!(source.functions[1].lines, 2);
        assert!(source.modules[0].is_test);
    }
}
