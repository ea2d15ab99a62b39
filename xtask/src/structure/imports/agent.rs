//! The imports allowed within the agent.

use super::rule::Rule;

const PURE: [&str; 6] = [
    "lb-userspace/src/model/",
    "lb-userspace/src/plan/",
    "lb-userspace/src/maps/contents",
    "lb-userspace/src/maps/diff",
    "lb-userspace/src/agent/mod.rs",
    "lb-userspace/src/agent/state_machine",
];

const AGENT: &str = "lb-userspace/src/";

/// The rules of lb-userspace.
pub const RULES: &[Rule] = &[
    Rule {
        files: &[AGENT],
        except: &["lb-userspace/src/source/"],
        names: &["k8s_openapi", "kube"],
        but: &[],
        instead: "Kubernetes' types end at lb-userspace/src/source; give `model` a field and fill it \
            in source/convert.",
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
            "lb-userspace/src/maps/bpf_map",
            "lb-userspace/src/maps/flow_table",
            "lb-userspace/src/maps/other_layout",
            "lb-userspace/src/datapath/",
            "lb-userspace/src/host/processors.rs",
            "lb-userspace/src/pins/",
            "lb-userspace/src/preflight/trial",
        ],
        names: &["aya", "aya_obj", "aya_log"],
        but: &[],
        instead: "aya ends at maps/kernel.rs, datapath/ and pins/; go through the trait MapStore, or \
            give `datapath` a function.",
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
        instead: "model, plan, maps::{contents, diff} and agent::state_machine are values and functions \
            of values: let agent/event_loop.rs do this and hand the result in.",
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
            "crate::maps::bpf_map",
            "crate::maps::diff",
            "crate::maps::in_memory",
            "crate::maps::kernel",
            "crate::maps::MapStore",
        ],
        but: &[],
        instead: "`plan` says what the maps should hold, never how it gets there; use maps::contents.",
    },
    Rule {
        files: &["lb-userspace/src/maps/"],
        except: &[],
        names: &["crate"],
        but: &["crate::maps", "crate::host::syscall", "crate::pins"],
        instead: "`maps` knows lb-common, system calls and where pins are; what is to be written comes \
            as Operations.",
    },
    Rule {
        files: &["lb-userspace/src/config/"],
        except: &[],
        names: &["crate"],
        but: &["crate::config", "crate::model", "crate::plan", "crate::source"],
        instead: "`config` is what flags and files say; `agent` hands it on.",
    },
    Rule {
        files: &["lb-userspace/src/host/"],
        except: &[],
        names: &["crate"],
        but: &["crate::host", "crate::config", "crate::model"],
        instead: "`host` reads facts of the node and makes system calls; what follows from them is decided \
            above.",
    },
    Rule {
        files: &["lb-userspace/src/pins/"],
        except: &[],
        names: &["crate"],
        but: &["crate::pins", "crate::host::syscall"],
        instead: "`pins` knows paths and what is pinned there; what is loaded and attached is `datapath`'s.",
    },
    Rule {
        files: &["lb-userspace/src/preflight/"],
        except: &[],
        names: &["crate"],
        but: &["crate::preflight", "crate::datapath", "crate::host", "crate::pins"],
        instead: "`preflight` judges the node and its kernel; what is done about it is `agent`'s.",
    },
    Rule {
        files: &["lb-userspace/src/datapath/"],
        except: &[],
        names: &["crate"],
        but: &["crate::datapath", "crate::config", "crate::host", "crate::model", "crate::pins"],
        instead: "`datapath` loads and attaches what settings say; what is in the maps is `maps`' \
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
        names: &["crate"],
        but: &["crate::observe", "crate::maps", "crate::model"],
        instead: "`observe` shows values of `model` and `maps` that it is handed; let `agent` hand them.",
    },
    Rule {
        files: &["lb-userspace/src/main.rs"],
        except: &[],
        names: &["lb_userspace", "crate"],
        but: &["lb_userspace::cli", "crate::main"],
        instead: "main.rs only calls `cli`.",
    },
];
