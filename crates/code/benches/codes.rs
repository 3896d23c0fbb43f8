//! A comparison of the erasure code with those of three crates: blocks of 128 symbols of 1,408
//! bytes, on one core, in one run. `cargo bench -p siar-code --bench codes`
//!
//! The benchmark times the work that a transfer does for a block: making as many repair symbols as
//! its worst receiver lacks, and solving for the lost source symbols. The loss pattern of each
//! block is random, as on a network.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use rand::seq::index;
use raptorq::{
    EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder,
    SourceBlockEncoder, SourceBlockEncodingPlan,
};
use reed_solomon_erasure::galois_8::ReedSolomon;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use siar_code::{CauchyCode, ErasureCode, MAX_BLOCK_SYMBOLS};

const SYMBOLS: usize = MAX_BLOCK_SYMBOLS as usize;
const SYMBOL_SIZE: usize = 1408;
const BLOCK_LEN: usize = SYMBOLS * SYMBOL_SIZE;
/// The number of blocks; together they are larger than a core's own cache.
const BLOCKS: usize = 64;
const ROUNDS: usize = 9;
/// The number of repair symbols for codes that fix it in advance.
const MOST_REPAIRS: usize = 32;
/// The numbers of lost symbols of a block: one, ten and twenty per cent.
const LOSSES: [usize; 3] = [1, 13, 26];
/// Repair symbols beyond the number of lost symbols that a rateless code gets: with 2 of them,
/// decoding succeeds in 99.9999 % of all cases (RFC 6330).
const RATELESS_EXTRA: usize = 2;

/// An erasure code in the form in which a transfer uses it.
trait Code {
    fn name(&self) -> &'static str;
    /// Makes `count` repair symbols; returns them and the time that this took.
    fn encode(&mut self, source: &[u8], count: usize) -> (Vec<Vec<u8>>, Duration);
    /// Fills the `lost` symbols of `received`; returns the time that this took.
    fn decode(&mut self, received: &mut [u8], lost: &[usize], repairs: &[Vec<u8>]) -> Duration;
}

struct Own;

impl Code for Own {
    fn name(&self) -> &'static str {
        "this one: Cauchy, GF(2^8)"
    }

    fn encode(&mut self, source: &[u8], count: usize) -> (Vec<Vec<u8>>, Duration) {
        let numbers: Vec<u16> = (0..count as u16).collect();
        let started = Instant::now();
        let mut symbols = Vec::new();
        CauchyCode.encode(source, SYMBOL_SIZE, &numbers, &mut symbols);
        let took = started.elapsed();
        (symbols.chunks(SYMBOL_SIZE).map(<[u8]>::to_vec).collect(), took)
    }

    fn decode(&mut self, received: &mut [u8], lost: &[usize], repairs: &[Vec<u8>]) -> Duration {
        let lost: Vec<u16> = lost.iter().map(|&index| index as u16).collect();
        let numbers: Vec<u16> = (0..repairs.len() as u16).collect();
        let mut repairs = repairs.concat();
        let started = Instant::now();
        CauchyCode.decode(received, SYMBOL_SIZE, &lost, &numbers, &mut repairs).unwrap();
        started.elapsed()
    }
}

struct Erasure(ReedSolomon);

impl Code for Erasure {
    fn name(&self) -> &'static str {
        "reed-solomon-erasure, SIMD: GF(2^8), 128 + 32"
    }

    fn encode(&mut self, source: &[u8], count: usize) -> (Vec<Vec<u8>>, Duration) {
        let started = Instant::now();
        let source: Vec<&[u8]> = source.chunks(SYMBOL_SIZE).collect();
        let mut repairs = vec![vec![0; SYMBOL_SIZE]; MOST_REPAIRS];
        self.0.encode_sep(&source, &mut repairs).unwrap();
        let took = started.elapsed();
        repairs.truncate(count);
        (repairs, took)
    }

    fn decode(&mut self, received: &mut [u8], lost: &[usize], repairs: &[Vec<u8>]) -> Duration {
        let mut repairs: Vec<Vec<u8>> = repairs.iter().take(lost.len()).cloned().collect();
        let given = repairs.len();
        repairs.resize(MOST_REPAIRS, vec![0; SYMBOL_SIZE]);
        let started = Instant::now();
        let source = received.chunks_mut(SYMBOL_SIZE).enumerate();
        let mut shards: Vec<(&mut [u8], bool)> =
            source.map(|(index, symbol)| (symbol, !lost.contains(&index))).collect();
        let repairs = repairs.iter_mut().enumerate();
        shards.extend(repairs.map(|(index, symbol)| (symbol.as_mut_slice(), index < given)));
        self.0.reconstruct_data(&mut shards).unwrap();
        started.elapsed()
    }
}

struct Simd(ReedSolomonEncoder, ReedSolomonDecoder);

impl Code for Simd {
    fn name(&self) -> &'static str {
        "reed-solomon-simd: GF(2^16), 128 + 32"
    }

    fn encode(&mut self, source: &[u8], count: usize) -> (Vec<Vec<u8>>, Duration) {
        let started = Instant::now();
        for symbol in source.chunks(SYMBOL_SIZE) {
            self.0.add_original_shard(symbol).unwrap();
        }
        let encoded = self.0.encode().unwrap();
        let took = started.elapsed();
        (encoded.recovery_iter().take(count).map(<[u8]>::to_vec).collect(), took)
    }

    fn decode(&mut self, received: &mut [u8], lost: &[usize], repairs: &[Vec<u8>]) -> Duration {
        let started = Instant::now();
        for (index, symbol) in received.chunks(SYMBOL_SIZE).enumerate() {
            if !lost.contains(&index) {
                self.1.add_original_shard(index, symbol).unwrap();
            }
        }
        for (index, symbol) in repairs.iter().take(lost.len()).enumerate() {
            self.1.add_recovery_shard(index, symbol).unwrap();
        }
        let decoded = self.1.decode().unwrap();
        for (index, symbol) in decoded.restored_original_iter() {
            received[index * SYMBOL_SIZE..][..SYMBOL_SIZE].copy_from_slice(symbol);
        }
        started.elapsed()
    }
}

struct RaptorQ(ObjectTransmissionInformation, SourceBlockEncodingPlan);

impl Code for RaptorQ {
    fn name(&self) -> &'static str {
        "raptorq (RFC 6330): rateless"
    }

    fn encode(&mut self, source: &[u8], count: usize) -> (Vec<Vec<u8>>, Duration) {
        let started = Instant::now();
        let encoder = SourceBlockEncoder::with_encoding_plan(0, &self.0, source, &self.1);
        let repairs = encoder.repair_packets(0, (count + RATELESS_EXTRA) as u32);
        let took = started.elapsed();
        (repairs.into_iter().map(|packet| packet.split().1).collect(), took)
    }

    fn decode(&mut self, received: &mut [u8], lost: &[usize], repairs: &[Vec<u8>]) -> Duration {
        let packet =
            |id, bytes: &[u8]| EncodingPacket::new(PayloadId::new(0, id as u32), bytes.to_vec());
        let symbols = received.chunks(SYMBOL_SIZE).enumerate();
        let mut packets: Vec<EncodingPacket> = symbols
            .filter(|(index, _)| !lost.contains(index))
            .map(|(index, symbol)| packet(index, symbol))
            .collect();
        let repairs = repairs.iter().take(lost.len() + RATELESS_EXTRA).enumerate();
        packets.extend(repairs.map(|(index, symbol)| packet(SYMBOLS + index, symbol)));
        let started = Instant::now();
        let mut decoder = SourceBlockDecoder::new(0, &self.0, BLOCK_LEN as u64);
        let decoded = decoder.decode(packets).expect("two symbols more than were lost");
        let took = started.elapsed();
        received.copy_from_slice(&decoded);
        took
    }
}

/// The numbers of `count` random source symbols of a block, in ascending order.
fn lost(count: usize) -> Vec<usize> {
    let mut lost = index::sample(&mut rand::rng(), SYMBOLS, count).into_vec();
    lost.sort_unstable();
    lost
}

/// The throughput in gigabytes of source symbols per second: the median of the rounds.
fn speed(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort_unstable();
    (BLOCKS * BLOCK_LEN) as f64 / rounds[rounds.len() / 2].as_secs_f64() / 1e9
}

fn main() {
    let filled = || (0..BLOCK_LEN).map(|_| rand::random()).collect();
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| filled()).collect();
    let layout = ObjectTransmissionInformation::new(BLOCK_LEN as u64, SYMBOL_SIZE as u16, 1, 1, 8);
    let mut codes: Vec<Box<dyn Code>> = vec![
        Box::new(Own),
        Box::new(Erasure(ReedSolomon::new(SYMBOLS, MOST_REPAIRS).unwrap())),
        Box::new(Simd(
            ReedSolomonEncoder::new(SYMBOLS, MOST_REPAIRS, SYMBOL_SIZE).unwrap(),
            ReedSolomonDecoder::new(SYMBOLS, MOST_REPAIRS, SYMBOL_SIZE).unwrap(),
        )),
        Box::new(RaptorQ(layout, SourceBlockEncodingPlan::generate(SYMBOLS as u16))),
    ];
    println!(
        "| code | lost of 128 | encoding, GB/s | this one is faster by | decoding, GB/s | this one is faster by |"
    );
    println!("|---|---|---|---|---|---|");
    for count in LOSSES {
        let mut times = vec![(Vec::new(), Vec::new()); codes.len()];
        for _ in 0..ROUNDS {
            for (code, (encoding, decoding)) in codes.iter_mut().zip(&mut times) {
                let (mut encoded_in, mut decoded_in) = (Duration::ZERO, Duration::ZERO);
                for block in &blocks {
                    let (repairs, took) = code.encode(block, count);
                    encoded_in += took;
                    let lost = lost(count);
                    let mut received = block.clone();
                    for index in &lost {
                        received[index * SYMBOL_SIZE..][..SYMBOL_SIZE].fill(0xee);
                    }
                    decoded_in += code.decode(&mut received, &lost, &repairs);
                    assert!(received == *block, "{}", code.name());
                }
                encoding.push(encoded_in);
                decoding.push(decoded_in);
            }
        }
        let speeds: Vec<(f64, f64)> = times
            .into_iter()
            .map(|(encoding, decoding)| (speed(encoding), speed(decoding)))
            .collect();
        let (own_encoding, own_decoding) = speeds[0];
        for (code, (encoding, decoding)) in codes.iter().zip(speeds) {
            let name = code.name();
            let (by_encoding, by_decoding) = (own_encoding / encoding, own_decoding / decoding);
            println!(
                "| {name} | {count} | {encoding:.2} | {by_encoding:.1} | {decoding:.2} | {by_decoding:.1} |"
            );
        }
    }
}
