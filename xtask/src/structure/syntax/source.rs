//! What one Rust file says that the rules look at: the paths it names, what it defines, how long its
//! functions are. Code for tests alone is left out, but for the functions' lengths.

/// What a file says.
#[derive(Default)]
pub struct Source {
    /// Every path, in the order of the text.
    pub names: Vec<Name>,
    /// What `use` brings into scope.
    pub uses: Vec<Use>,
    /// The modules that are declared, with or without a body.
    pub modules: Vec<Module>,
    /// The names of all items, by the inline module they are in.
    pub items: Vec<(Vec<String>, String)>,
    /// Structs, enums, traits, unions and type aliases: the name and its line.
    pub types: Vec<(String, usize)>,
    /// Every function, those of tests among them.
    pub functions: Vec<Function>,
    /// The lines with `unsafe`.
    pub unsafe_lines: Vec<usize>,
}

/// A path and where it stands.
pub struct Name {
    /// Its parts, as written.
    pub path: Vec<String>,
    /// The modules within the file around it.
    pub inside: Vec<String>,
    /// The line, counted from 1.
    pub line: usize,
}

/// One leaf of a `use`.
pub struct Use {
    /// The path, as written; without the star of a glob.
    pub path: Vec<String>,
    /// The name it has here; `None` for a glob.
    pub name: Option<String>,
    /// Whether others may import it from here.
    pub is_public: bool,
    /// The modules within the file around it.
    pub inside: Vec<String>,
    /// The line, counted from 1.
    pub line: usize,
}

/// A declaration `mod name;` or `mod name { … }`.
pub struct Module {
    /// Its name below the file's own module.
    pub path: Vec<String>,
    /// Whether its body is here.
    pub is_inline: bool,
    /// What `#[path = "…"]` says.
    pub file: Option<String>,
    /// Whether it is for tests alone.
    pub is_test: bool,
}

/// A function.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where it begins, counted from 1.
    pub line: usize,
    /// Its lines, from `fn` to the last brace.
    pub lines: usize,
}
