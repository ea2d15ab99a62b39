//! The processors that guests have, and what each is called by compilers, Debian and the emulator.

use std::fmt;

use anyhow::{Context, Result};

/// A processor architecture that Weir is built for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// As Debian names it, in packages and on our command line.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The compiler's target for programs in user space.
    pub const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As aya and the kernel's sources name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// That of the machine that this runs on.
    ///
    /// # Errors
    /// It is one that Weir is not built for.
    pub fn of_this_machine() -> Result<Self> {
        let name = std::env::consts::ARCH;
        let found = [Self::X86_64, Self::Aarch64].into_iter().find(|of| of.name() == name);
        found.with_context(|| format!("Weir is built for x86_64 and aarch64, and this is {name}"))
    }

    /// The C compiler for that target, which links and builds the little C there is, and the packages
    /// that hold it and its library for machines of another kind.
    pub const fn c_compiler(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::X86_64 => {
                ("x86_64-linux-gnu-gcc", ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"])
            }
            Self::Aarch64 => {
                ("aarch64-linux-gnu-gcc", ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])
            }
        }
    }

    /// The emulator's program and the Debian package that holds it.
    pub const fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The emulator's arguments for a plain machine of this kind. Pointers signed by ARM's own
    /// algorithm would take most of the emulator's time.
    pub const fn machine(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["-cpu", "max"],
            Self::Aarch64 => &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
        }
    }

    /// The serial console, as the kernel names it.
    pub const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}

impl std::str::FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::X86_64, Self::Aarch64].into_iter().find(|of| of.debian() == text);
        found.ok_or_else(|| format!("{text} is neither amd64 nor arm64"))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}
