//! The ways a packet's walk may end. Every program run ends with exactly one, which is counted per
//! CPU in `OUTCOMES` and bears the same name in metrics, command line, documentation and tests.

use core::fmt;

/// What became of the packet, in general.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ending {
    /// Translated and on its way.
    Translated,
    /// Left as it was.
    Passed,
    /// Answered by this node in the place of whom it was sent to.
    Answered,
    /// Kept back for a moment, to be walked again.
    Held,
    /// Discarded.
    Dropped,
}

macro_rules! outcomes {
    ($($variant:ident, $ending:ident, $name:literal, $sentence:literal;)+) => {
        /// How a packet's walk ended.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Outcome {
            $(#[doc = $sentence] $variant,)+
        }

        impl Outcome {
            /// Every outcome, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that metrics, documentation and tests use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The outcome as a sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }

            /// What became of the packet, in general.
            // Every walk asks, more than once: a call each time costs some three nanoseconds.
            #[inline(always)]
            #[must_use]
            pub const fn ending(self) -> Ending {
                match self { $(Self::$variant => Ending::$ending,)+ }
            }
        }
    };
}

outcomes! {
    Forwarded, Translated, "forwarded",
        "sent to a backend by way of the node's stack";
    ForwardedOut, Translated, "forwarded-out",
        "sent to a backend elsewhere, source translated";
    ForwardedBack, Translated, "forwarded-back",
        "sent back to the pod it came from, which is its own backend";
    ForwardedCrowded, Translated, "forwarded-crowded",
        "sent to a backend, but the connection table is full: the flow stays among the half-open ones";
    Replied, Translated, "replied",
        "an answer, sent to the client as from the frontend";
    RepliedOut, Translated, "replied-out",
        "an answer from a backend elsewhere, sent to the client as from the frontend";
    RepliedBack, Translated, "replied-back",
        "an answer of a pod to itself, sent back as from the frontend";
    ForwardedSocket, Translated, "forwarded-socket",
        "a process dialled a Service: its socket was given a backend";
    ForwardedError, Translated, "forwarded-error",
        "an ICMP error about an answer, sent on to the backend";
    RepliedSocket, Translated, "replied-socket",
        "a process asked whom its socket speaks to, or who sent a datagram: told the frontend";
    RepliedError, Translated, "replied-error",
        "an ICMP error about a flow's packet, sent on to the client as about the frontend";

    FragmentHeld, Held, "held-fragment",
        "a later fragment to a Service's address, kept back until its first one comes";

    AnsweredPing, Answered, "answered-ping",
        "an echo request to a Service's address, answered";
    RejectedNoEndpoint, Answered, "rejected-no-endpoint",
        "the Service port has no endpoint anywhere: told the sender that the port is unreachable";
    RejectedUndefinedPort, Answered, "rejected-undefined-port",
        "a Service's address, but none of its ports: told the sender that the port is unreachable";
    RejectedTooBig, Answered, "rejected-too-big",
        "larger than the next link carries: told the sender how large a packet may be";
    RejectedTtlExpired, Answered, "rejected-ttl-expired",
        "its time to live ran out here: told the sender";

    NotIp, Passed, "passed-not-ip",
        "neither IPv4 nor IPv6";
    NotTransport, Passed, "passed-not-transport",
        "a transport protocol that Weir does not balance";
    NotAService, Passed, "passed-not-a-service",
        "of no Service";
    OtherHook, Passed, "passed-other-hook",
        "of a connection that is translated at another hook";
    LeftToTc, Passed, "passed-left-to-tc",
        "left to the full program at TC";
    Fragment, Passed, "passed-fragment",
        "a later fragment of a packet whose first one was not seen";
    ExtensionHeader, Passed, "passed-extension-header",
        "with more IPv6 extension headers than are read";
    IcmpError, Passed, "passed-icmp-error",
        "an ICMP error about no translated flow";
    Ping, Passed, "passed-ping",
        "an echo request to an address of no Service";
    Vlan, Passed, "passed-vlan",
        "with a VLAN tag: left to the device that takes it off";
    Malformed, Passed, "passed-malformed",
        "a header is cut short or contradicts itself";

    Unrejected, Dropped, "dropped-unrejected",
        "the sender was not told, because others were told too often or one does not tell of such packets";
    SourceRange, Dropped, "dropped-source-range",
        "sent from outside the Service's loadBalancerSourceRanges";
    UnallocatedAddress, Dropped, "dropped-unallocated-address",
        "an address that the cluster may give to a Service and has given to none";
    FragmentLost, Dropped, "dropped-fragment-lost",
        "a later fragment to a Service's address, whose first one did not come in time";
    NoLocalEndpoint, Dropped, "dropped-no-local-endpoint",
        "a traffic policy asks for an endpoint of this node and there is none";
    NoBackend, Dropped, "dropped-no-backend",
        "the slot chosen names no backend";
    NoSourcePort, Dropped, "dropped-no-source-port",
        "no free source port was found for a translated flow";
    NoSourceAddress, Dropped, "dropped-no-source-address",
        "no address to translate the source to: the device it would leave by has none, or is not balanced (weir show devices)";
    NoRoute, Dropped, "dropped-no-route",
        "no route leads to the packet's new destination";
    TableFull, Dropped, "dropped-table-full",
        "the flow's entries could not be written";
    Unwritable, Dropped, "dropped-unwritable",
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

    #[test]
    fn numbers_follow_the_order_of_the_list() {
        for (number, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
        }
    }

    #[test]
    fn names_are_unique_and_say_how_it_ended() {
        for (i, outcome) in Outcome::ALL.iter().enumerate() {
            assert!(Outcome::ALL[i + 1..].iter().all(|other| other.name() != outcome.name()));
            let prefix = match outcome.ending() {
                Ending::Translated => ["forwarded", "replied"].as_slice(),
                Ending::Passed => &["passed-"],
                Ending::Answered => &["answered-", "rejected-"],
                Ending::Held => &["held-"],
                Ending::Dropped => &["dropped-"],
            };
            assert!(prefix.iter().any(|p| outcome.name().starts_with(p)), "{outcome}");
        }
    }
}
