//! What people install, as Helm and kustomize render it from `deploy/`. The rendered files are kept in
//! `rendered/`, so that what they say is checked without either; where the renderer of `render/` is
//! (`cargo xtask test` builds it with Go) they are rendered anew and compared, or with
//! `UPDATE_EXPECT=1` rewritten.

mod agent;
mod objects;
mod privileges;
mod rendered;
