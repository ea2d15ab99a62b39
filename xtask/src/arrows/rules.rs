//! The arrows, as data. Files are named by prefixes of their path in the workspace, names by
//! prefixes of their full path in Rust.

/// One arrow: files that may not name something, and what to do instead.
pub struct Rule {
    files: &'static [&'static str],
    except: &'static [&'static str],
    names: &'static [&'static str],
    but: &'static [&'static str],
    /// What to do instead: a sentence.
    pub instead: &'static str,
}

/// What to do instead of `unsafe` outside its few places.
pub const INSTEAD_OF_UNSAFE: &str = "Unsafe code lives in lb-ebpf/src/{kernel,bench}, lb-ebpf/src/main.rs, \
    lb-common/src/layout.rs and lb-userspace/src/syscall.rs; put a safe function there and call it.";

const PURE: [&str; 5] = [
    "lb-userspace/src/model/",
    "lb-userspace/src/plan/",
    "lb-userspace/src/maps/contents",
    "lb-userspace/src/maps/diff",
    "lb-userspace/src/agent/mod.rs",
];

const AGENT: &str = "lb-userspace/src/";

/// Every arrow of the design.
pub const RULES: &[Rule] = &[
    Rule {
        files: &["lb-common/"],
        except: &[],
        names: &["lb_ebpf", "lb_userspace", "aya", "aya_ebpf", "std::fs", "std::net"],
        but: &[],
        instead: "lb-common is what kernel and user space agree on, and does no I/O; \
            what needs more belongs to lb-ebpf or lb-userspace.",
    },
    Rule {
        files: &["lb-ebpf/"],
        except: &[],
        names: &["lb_userspace", "aya"],
        but: &[],
        instead: "The walk of a packet knows lb-common alone; what it needs of the agent must stand \
            in a map.",
    },
    Rule {
        files: &["lb-ebpf/"],
        except: &["lb-ebpf/src/kernel/", "lb-ebpf/src/bench/", "lb-ebpf/src/main.rs"],
        names: &["aya_ebpf", "aya_log_ebpf"],
        but: &[],
        instead: "What a packet's walk needs of the kernel goes through the traits Packet, Tables and \
            their like; their implementations for the kernel live in lb-ebpf/src/kernel.",
    },
    Rule {
        files: &["xtask/"],
        except: &[],
        names: &["lb_common", "lb_ebpf", "lb_userspace", "weir_tests"],
        but: &[],
        instead: "xtask must build in seconds and before anything else; put this into the package \
            `tests` and start it from here.",
    },
    Rule {
        files: &[AGENT],
        except: &["lb-userspace/src/source/"],
        names: &["k8s_openapi", "kube"],
        but: &[],
        instead: "Kubernetes' types end at lb-userspace/src/source; give `model` a field and fill it \
            in source/convert.rs.",
    },
    Rule {
        files: &[AGENT],
        except: &[
            "lb-userspace/src/source/",
            "lb-userspace/src/cli/",
            "lb-userspace/src/config/kube_proxy",
        ],
        names: &["serde_saphyr"],
        but: &[],
        instead: "YAML is read by lb-userspace/src/source and config/kube_proxy, and printed by \
            lb-userspace/src/cli; hand them values.",
    },
    Rule {
        files: &[AGENT],
        except: &[
            "lb-userspace/src/maps/kernel",
            "lb-userspace/src/maps/batch",
            "lb-userspace/src/programs/",
        ],
        names: &["aya", "aya_obj", "aya_log"],
        but: &[],
        instead: "aya ends at maps/kernel.rs and programs/; go through the trait MapStore, or give \
            `programs` a function.",
    },
    Rule {
        files: &PURE,
        except: &[],
        names: &[
            "std::time",
            "std::fs",
            "std::io",
            "std::process",
            "std::thread",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "tokio",
            "nix",
            "libc",
        ],
        but: &["std::time::Duration"],
        instead: "model, plan, maps::{contents, diff} and agent::mod are values and functions of \
            values: let agent/run.rs do this and hand the result in.",
    },
    Rule {
        files: &["lb-userspace/src/model/"],
        except: &[],
        names: &["crate"],
        but: &["crate::model"],
        instead: "`model` is the bottom of the agent; what it needs must stand in it or in lb-common.",
    },
    Rule {
        files: &["lb-userspace/src/source/"],
        except: &[],
        names: &["crate"],
        but: &["crate::source", "crate::model"],
        instead: "A source knows the model alone: it yields Changes, and `agent` takes them in.",
    },
    Rule {
        files: &["lb-userspace/src/plan/"],
        except: &[],
        names: &["crate"],
        but: &["crate::plan", "crate::model", "crate::maps"],
        instead: "`plan` knows the model and the maps' contents alone; hand it the rest as an argument.",
    },
    Rule {
        files: &["lb-userspace/src/plan/"],
        except: &[],
        names: &[
            "crate::maps::batch",
            "crate::maps::diff",
            "crate::maps::kernel",
            "crate::maps::memory",
            "crate::maps::MapStore",
        ],
        but: &[],
        instead: "`plan` says what the maps should hold, never how it gets there; use maps::contents.",
    },
    Rule {
        files: &["lb-userspace/src/maps/"],
        except: &[],
        names: &["crate"],
        but: &["crate::maps", "crate::syscall", "crate::programs::pins"],
        instead: "`maps` knows lb-common, system calls and where pins are; what is to be written comes \
            as Operations.",
    },
    Rule {
        files: &["lb-userspace/src/programs/"],
        except: &[],
        names: &["crate"],
        but: &["crate::programs", "crate::config", "crate::model", "crate::syscall"],
        instead: "`programs` loads and attaches what settings say; what is in the maps is `maps`' \
            affair, and when to do what is `agent`'s.",
    },
    Rule {
        files: &["lb-userspace/src/agent/"],
        except: &[],
        names: &["crate::cli"],
        but: &[],
        instead: "`agent` knows nothing of how it is started; hand it a value.",
    },
    Rule {
        files: &["lb-userspace/src/observe/"],
        except: &[],
        names: &["crate::cli", "crate::agent"],
        but: &[],
        instead: "`observe` shows values it is handed; let `agent` hand them.",
    },
    Rule {
        files: &["lb-userspace/src/main.rs"],
        except: &[],
        names: &["lb_userspace", "crate"],
        but: &["lb_userspace::cli", "crate::main"],
        instead: "main.rs only calls `cli`.",
    },
];

impl Rule {
    /// Whether this arrow begins at `file`.
    pub fn holds_for(&self, file: &str) -> bool {
        let within = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
        within(self.files) && !within(self.except)
    }

    /// Whether `path` must not be named.
    pub fn forbids(&self, path: &str) -> bool {
        let under = |roots: &[&str]| roots.iter().any(|root| is_under(path, root));
        under(self.names) && !under(self.but)
    }
}

/// Whether `file` is one of the few that may be unsafe.
pub fn may_be_unsafe(file: &str) -> bool {
    [
        "lb-ebpf/src/kernel/",
        "lb-ebpf/src/bench/",
        "lb-ebpf/src/main.rs",
        "lb-common/src/layout.rs",
        "lb-userspace/src/syscall.rs",
        "tests/",
    ]
    .iter()
    .any(|allowed| file.starts_with(allowed))
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
