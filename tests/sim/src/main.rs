fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let seed: u64 = args.next().unwrap().parse().unwrap();
    let light = if args.next().unwrap() == "day" { campanile_sim::scene::Light::Day } else { campanile_sim::scene::Light::Night };
    let out = args.next().unwrap();
    let p = campanile_sim::scene::SceneParams::new(seed as u16, seed, light);
    let r = campanile_sim::program::render(&p, campanile_sim::units::Codec::H264, std::path::Path::new(&out)).unwrap();
    println!("{}", r.main.display());
}
