//! Service ports: their frontends, what each source class gets there, the policy of their addresses, and
//! their names.

mod frontend;
mod ip_policy;
mod label;

pub use self::frontend::{EmptyPoolReason, Frontend, FrontendRow, Pool, SourceClass};
pub use self::ip_policy::IpPolicy;
pub use self::label::{LABEL_LENGTH, ServiceId, ServiceLabel};
