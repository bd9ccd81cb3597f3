//! Cost of sealing, by suite, beside what each record costs anyway: chain, checksum, and its bytes for the disk. One
//! second of a 2 Mbit/s stream.

use bytes::Bytes;
use campanile_proto::segment::{Record, SegmentKey};
use campanile_proto::types::v1::{RecordKind, Suite};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const FRAGMENT_BYTES: usize = 250_000;

fn sealing(criterion: &mut Criterion) {
    let plain: Vec<u8> = (0..FRAGMENT_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let key = SegmentKey::random().expect("random bytes");
    let mut group = criterion.benchmark_group("sealing");
    group.throughput(Throughput::Bytes(FRAGMENT_BYTES as u64));
    for suite in [Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        group.bench_function(BenchmarkId::from_parameter(suite.as_str_name()), |bencher| {
            bencher.iter(|| black_box(key.seal(suite.into(), 1, b"header", &plain).expect("a sealed payload")));
        });
    }
    let payload = Bytes::from(plain.clone());
    group.bench_function("chain and checksum", |bencher| {
        bencher.iter(|| {
            let header = Bytes::from_static(b"header");
            black_box(Record::following(&[7; 32], RecordKind::Fragment, header, payload.clone()).encode())
        });
    });
    group.finish();
}

criterion_group!(benches, sealing);
criterion_main!(benches);
