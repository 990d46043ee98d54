//! Programs that the benchmarks start: `peers micro` measures the transcoder beside generated code and prints a line of
//! JSON for each shape; `peers serve` is a gateway of generated code:
//! what a team writes by hand with axum, pbjson and tonic, with the middleware that the gateway has.

mod micro;
mod serve;
mod shapes;

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The generated code: prost's messages with pbjson's JSON.
mod typed {
    #![allow(dead_code, missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/bench.rs"));
    include!(concat!(env!("OUT_DIR"), "/bench.serde.rs"));
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["micro", rounds] => micro::run(rounds.parse()?, ""),
        ["micro", rounds, shape] => micro::run(rounds.parse()?, shape),
        ["serve", upstream] => serve::run(upstream),
        _ => anyhow::bail!("expected: micro ROUNDS [SHAPE], or serve UPSTREAM with a secret in SECRET"),
    }
}
