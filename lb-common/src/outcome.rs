//! The outcomes of a packet's walk. Every program run ends with exactly one, which is counted per CPU in
//! `OUTCOMES` and has the same name in metrics, command line, documentation and tests.

use core::fmt;

/// What became of the packet, in general.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disposition {
    /// Translated and sent on.
    Translated,
    /// Left unchanged.
    Passed,
    /// Replaced by an ICMP message to its sender: an echo reply or an error.
    IcmpReplied,
    /// Kept until the first fragment arrives, and walked again then.
    Queued,
    /// Discarded.
    Dropped,
}

macro_rules! outcomes {
    ($($variant:ident, $disposition:ident, $name:literal, $sentence:literal;)+) => {
        /// How a packet's walk ended.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Outcome {
            $(#[doc = $sentence] $variant,)+
        }

        impl Outcome {
            /// Every outcome, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics, documentation and tests: the variant's words, with dashes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The outcome as a sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }

            /// What became of the packet, in general.
            // Called several times per walk: without inlining each call costs some three nanoseconds.
            #[inline(always)]
            #[must_use]
            pub const fn disposition(self) -> Disposition {
                match self { $(Self::$variant => Disposition::$disposition,)+ }
            }
        }
    };
}

outcomes! {
    Forwarded, Translated, "forwarded",
        "sent to a backend through the node's stack";
    ForwardedSnat, Translated, "forwarded-snat",
        "sent to a remote backend, with this node's address as its source";
    ForwardedHairpin, Translated, "forwarded-hairpin",
        "sent back to the pod it came from, which is its own backend";
    ForwardedConntrackFull, Translated, "forwarded-conntrack-full",
        "sent to a backend, but the conntrack table is full: the flow stays half-open";
    ForwardedDirect, Translated, "forwarded-direct",
        "sent to a backend itself from another source port: a flow through a Service has its own";
    ForwardedFromHost, Translated, "forwarded-from-host",
        "of this node's own, sent to a backend";
    Replied, Translated, "replied",
        "a reply, sent to the client with the frontend as its source";
    RepliedSnat, Translated, "replied-snat",
        "a reply of a remote backend, sent to the client with the frontend as its source";
    RepliedHairpin, Translated, "replied-hairpin",
        "a pod's reply to itself, sent back with the frontend as its source";
    RepliedDirect, Translated, "replied-direct",
        "a reply to a flow to a backend itself, sent to the client's own source port";
    RepliedToHost, Translated, "replied-to-host",
        "a reply to this node itself, given to its stack with the frontend as its source";
    SocketConnected, Translated, "socket-connected",
        "a process connected or sent to a Service: its socket got a backend";
    ForwardedIcmpError, Translated, "forwarded-icmp-error",
        "an ICMP error about a reply, translated and sent to the backend";
    SocketPeerRestored, Translated, "socket-peer-restored",
        "a process asked for its peer or the sender of a datagram: got the frontend";
    RepliedIcmpError, Translated, "replied-icmp-error",
        "an ICMP error about a flow's packet, translated and sent to the client";

    QueuedFragment, Queued, "queued-fragment",
        "a later fragment to a Service's address, kept until its first one arrives";

    EchoReplied, IcmpReplied, "echo-replied",
        "an echo request to a Service's address, replied to by this node";
    RejectedNoEndpoint, IcmpReplied, "rejected-no-endpoint",
        "the Service port has no endpoint: ICMP port unreachable sent";
    RejectedNoSuchPort, IcmpReplied, "rejected-no-such-port",
        "a Service's address but none of its ports: ICMP port unreachable sent";
    RejectedFragNeeded, IcmpReplied, "rejected-frag-needed",
        "larger than the MTU of the next link: ICMP fragmentation needed or packet too big sent";
    RejectedTtlExpired, IcmpReplied, "rejected-ttl-expired",
        "its TTL or hop limit ran out here: ICMP time exceeded sent";

    PassedNotIp, Passed, "passed-not-ip",
        "neither IPv4 nor IPv6";
    PassedUnsupportedProtocol, Passed, "passed-unsupported-protocol",
        "a transport protocol that Weir does not balance";
    PassedNotAService, Passed, "passed-not-a-service",
        "not addressed to a Service";
    PassedDirect, Passed, "passed-direct",
        "of a flow to a backend itself, not through a Service: there is nothing to change";
    PassedUntracked, Passed, "passed-untracked",
        "the same, but there is no room in the conntrack table, or no free source port";
    PassedOtherHook, Passed, "passed-other-hook",
        "of a flow that is translated at another hook";
    PassedNoFlow, Passed, "passed-no-flow",
        "to this node's own address, of no flow and none that begins one: the node's own";
    PassedOwnFlow, Passed, "passed-own-flow",
        "a reply to the node or to a masqueraded pod, whose local port is a frontend's";
    PassedLocalSocket, Passed, "passed-local-socket",
        "to a cluster IP that a device of this node has, where a socket listens: left to it";
    PassedLeftToTc, Passed, "passed-left-to-tc",
        "left to the full program at TC";
    PassedHandedOver, Passed, "passed-handed-over",
        "of no flow of the release before, whose programs leave it to those of the next one";
    PassedFragment, Passed, "passed-fragment",
        "a later fragment of a packet whose first one was not seen";
    PassedExtensionHeader, Passed, "passed-extension-header",
        "with more IPv6 extension headers than are parsed";
    PassedIcmpError, Passed, "passed-icmp-error",
        "an ICMP error about no translated flow";
    PassedEcho, Passed, "passed-echo",
        "an echo request that is not addressed to a Service";
    PassedNotThisNode, Passed, "passed-not-this-node",
        "its destination link address is another host's, broadcast or multicast";
    PassedVlan, Passed, "passed-vlan",
        "with a VLAN tag: left to the device that removes it";
    PassedMalformed, Passed, "passed-malformed",
        "a header is cut short or contradicts itself";

    DroppedIcmpSuppressed, Dropped, "dropped-icmp-suppressed",
        "no ICMP message sent: rate limit reached, or forbidden by RFC 1812";
    DroppedSourceRange, Dropped, "dropped-source-range",
        "its source is not within the Service's loadBalancerSourceRanges";
    DroppedUnallocatedAddress, Dropped, "dropped-unallocated-address",
        "an address of a service CIDR that no Service has";
    DroppedFragNotFound, Dropped, "dropped-frag-not-found",
        "a later fragment to a Service's address, whose first one did not arrive in time";
    DroppedNoFlow, Dropped, "dropped-no-flow",
        "to a Service, of no flow, and only an answer: a reset, or SYN and ACK";
    DroppedNoLocalEndpoint, Dropped, "dropped-no-local-endpoint",
        "the traffic policy is Local and this node has no endpoint";
    DroppedNoBackend, Dropped, "dropped-no-backend",
        "the selected slot names no backend";
    DroppedNoSnatPort, Dropped, "dropped-no-snat-port",
        "no free source port for SNAT";
    DroppedNoSnatAddress, Dropped, "dropped-no-snat-address",
        "no address for SNAT: the egress device has none, or is not balanced (weir show devices)";
    DroppedNoRoute, Dropped, "dropped-no-route",
        "no route to the new destination";
    DroppedConntrackFull, Dropped, "dropped-conntrack-full",
        "the flow's conntrack entries could not be written";
    DroppedWriteError, Dropped, "dropped-write-error",
        "the kernel refused to change the packet";
}

impl Outcome {
    /// How many outcomes there are: the length of `OUTCOMES`.
    pub const COUNT: u32 = Self::ALL.len() as u32;
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::format;
    use std::string::String;

    #[test]
    fn numbers_follow_the_order_of_the_list() {
        for (number, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
        }
    }

    #[test]
    fn a_name_is_its_variant_s_words_with_dashes() {
        for outcome in Outcome::ALL {
            let variant = format!("{outcome:?}");
            let dashed = variant.chars().enumerate().fold(String::new(), |mut name, (at, c)| {
                if at > 0 && c.is_uppercase() {
                    name.push('-');
                }
                name.push(c.to_ascii_lowercase());
                name
            });
            assert_eq!(outcome.name(), dashed);
        }
    }

    #[test]
    fn the_first_word_says_what_became_of_the_packet() {
        for outcome in Outcome::ALL {
            let words = match outcome.disposition() {
                Disposition::Translated => ["forwarded", "replied", "socket"].as_slice(),
                Disposition::Passed => &["passed"],
                Disposition::IcmpReplied => &["echo", "rejected"],
                Disposition::Queued => &["queued"],
                Disposition::Dropped => &["dropped"],
            };
            let first = outcome.name().split('-').next();
            assert!(first.is_some_and(|first| words.contains(&first)), "{outcome}");
        }
    }
}
