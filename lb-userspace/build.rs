//! Embeds the BPF object where `WEIR_EBPF_OBJECT` names it; without it the agent is built all the
//! same and reads the object when it runs, so that tests and clippy need no BPF toolchain.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded_object)");
    println!("cargo::rerun-if-env-changed=WEIR_EBPF_OBJECT");
    let Some(path) = env::var_os("WEIR_EBPF_OBJECT") else {
        return;
    };
    let path = path.display();
    println!("cargo::rerun-if-changed={path}");
    println!("cargo::rustc-env=WEIR_EBPF_OBJECT={path}");
    println!("cargo::rustc-cfg=embedded_object");
}
