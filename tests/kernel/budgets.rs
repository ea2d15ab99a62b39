//! Budgets.
use aya::{
    EbpfLoader,
    programs::{SchedClassifier, Xdp},
};

#[test]
fn programs_stay_within_their_budgets() {
    let object = std::fs::read(std::env::var("WEIR_EBPF_OBJECT").unwrap()).unwrap();
    let mut bpf =
        EbpfLoader::new().verifier_log_level(aya::VerifierLogLevel::STATS).load(&object).unwrap();
    for name in ["from_pod", "from_network", "to_device", "network_xdp"] {
        let p = bpf.program_mut(name).unwrap();
        let r = if name == "network_xdp" {
            let p: &mut Xdp = p.try_into().unwrap();
            p.load()
        } else {
            let p: &mut SchedClassifier = p.try_into().unwrap();
            p.load()
        };
        if let Err(e) = r {
            let s = format!("{e:?}").replace("\\n", "\n");
            let n = s.len();
            println!("{name}: {}", &s[n.saturating_sub(6000)..]);
            continue;
        }
        let info = bpf.program(name).unwrap().info().unwrap();
        println!(
            "{name}: verified {:?} xlated {:?} jit {:?}",
            info.verified_instruction_count(),
            info.size_translated(),
            info.size_jitted()
        );
    }
}
