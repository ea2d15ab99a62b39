//! The imports allowed in the crates that are not the agent.

use super::rule::Rule;

/// The bottom of the datapath: what a packet, a hook and the world are.
const DATAPATH_BOTTOM: [&str; 7] = [
    "lb-ebpf/src/checksum",
    "lb-ebpf/src/hook",
    "lb-ebpf/src/packet.rs",
    "lb-ebpf/src/packet_state",
    "lb-ebpf/src/trace",
    "lb-ebpf/src/wire/",
    "lb-ebpf/src/world",
];

/// The steps of a walk, each for itself.
const DATAPATH_STEPS: [&str; 9] = [
    "lb-ebpf/src/backend_select",
    "lb-ebpf/src/conntrack",
    "lb-ebpf/src/forward",
    "lb-ebpf/src/fragments",
    "lb-ebpf/src/icmp",
    "lb-ebpf/src/ip_policy",
    "lb-ebpf/src/rewrite",
    "lb-ebpf/src/slow_path",
    "lb-ebpf/src/socket_lb",
];

/// The rules of lb-common, lb-ebpf and xtask.
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
        files: &DATAPATH_BOTTOM,
        except: &[],
        names: &[
            "crate::backend_select",
            "crate::conntrack",
            "crate::forward",
            "crate::fragments",
            "crate::icmp",
            "crate::ip_policy",
            "crate::rewrite",
            "crate::slow_path",
            "crate::socket_lb",
            "crate::walk",
        ],
        but: &[],
        instead: "Headers, packet state and the world are the bottom of the datapath: what decides \
            about a packet stands in the modules above them and calls these.",
    },
    Rule {
        files: &DATAPATH_STEPS,
        except: &[],
        names: &["crate::walk"],
        but: &[],
        instead: "The walk is on top: it calls the steps. Hand a step what it needs as an argument.",
    },
    Rule {
        files: &["lb-ebpf/src/"],
        except: &[
            "lb-ebpf/src/bench/",
            "lb-ebpf/src/cases/",
            "lb-ebpf/src/in_memory",
            "lb-ebpf/src/kernel/",
        ],
        names: &["crate::cases", "crate::in_memory", "crate::kernel"],
        but: &[],
        instead: "The walk knows its worlds by their traits alone; in_memory, cases and kernel are \
            built on it.",
    },
    Rule {
        files: &["xtask/"],
        except: &[],
        names: &["lb_common", "lb_ebpf", "lb_userspace", "weir_tests"],
        but: &[],
        instead: "xtask must build in seconds and before anything else; put this into the package \
            `tests` and start it from here.",
    },
];
