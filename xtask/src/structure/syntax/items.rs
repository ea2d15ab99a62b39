//! What `syn` says of an item: its attributes and its name.

/// Whether attributes say `cfg(test)`.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test")
        }
        syn::Meta::List(_) | syn::Meta::Path(_) | syn::Meta::NameValue(_) => false,
    })
}

/// What `#[path = "…"]` says.
pub fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(literal) = &pair.value else { return None };
        let syn::Lit::Str(text) = &literal.lit else { return None };
        pair.path.is_ident("path").then(|| text.value())
    })
}

/// The attributes of an item.
pub fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::{
        Const, Enum, ExternCrate, Fn, ForeignMod, Impl, Macro, Mod, Static, Struct, Trait,
        TraitAlias, Type, Union, Use, Verbatim,
    };
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        ExternCrate(item) => &item.attrs,
        Fn(item) => &item.attrs,
        ForeignMod(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        TraitAlias(item) => &item.attrs,
        Type(item) => &item.attrs,
        Union(item) => &item.attrs,
        Use(item) => &item.attrs,
        Verbatim(_) | _ => &[],
    }
}

/// The name that an item defines, and whether it is a type's.
pub fn defined_by(item: &syn::Item) -> Option<(&syn::Ident, bool)> {
    use syn::Item::{
        Const, Enum, ExternCrate, Fn, ForeignMod, Impl, Macro, Mod, Static, Struct, Trait,
        TraitAlias, Type, Union, Use, Verbatim,
    };
    Some(match item {
        Enum(item) => (&item.ident, true),
        Struct(item) => (&item.ident, true),
        Trait(item) => (&item.ident, true),
        Type(item) => (&item.ident, true),
        Union(item) => (&item.ident, true),
        Const(item) => (&item.ident, false),
        Fn(item) => (&item.sig.ident, false),
        Static(item) => (&item.ident, false),
        Macro(item) => (item.ident.as_ref()?, false),
        ExternCrate(_) | ForeignMod(_) | Impl(_) | Mod(_) | TraitAlias(_) | Use(_)
        | Verbatim(_) | _ => {
            return None;
        }
    })
}
