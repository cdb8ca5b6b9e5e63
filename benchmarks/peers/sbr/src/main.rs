//! Models of sequences by the Rust crate sbr.
//!
//! `sbr-sequences MODEL LOSS LENGTH FILE`: the file has two words for each interaction, user and item, in the order of time.
//! It then obeys lines on the standard input, as benchmarks/peers/protocol.py does: `run START STOP` makes so many epochs and
//! prints `done`. `first N` is answered by `unknown`, because negatives are drawn.

use std::convert::TryInto;
use std::io::{self, BufRead, Write};
use std::{env, fs};

use rand::{SeedableRng, XorShiftRng};
use sbr::data::{CompressedInteractions, Interaction, Interactions};
use sbr::models::{ewma, lstm, Loss, Optimizer};

const DIMENSION: usize = 32;
const RATE: f32 = 0.16;
const L2: f32 = 4e-4;

fn interactions(path: &str) -> Interactions {
    let bytes = fs::read(path).expect(path);
    let numbers: Vec<usize> =
        bytes.chunks_exact(4).map(|word| i32::from_le_bytes(word.try_into().unwrap()) as usize).collect();
    let pairs = numbers.chunks_exact(2).enumerate();
    Interactions::from(pairs.map(|(time, pair)| Interaction::new(pair[0], pair[1], time)).collect::<Vec<_>>())
}

/// Makes one epoch.
type Epoch = Box<dyn FnMut(&CompressedInteractions)>;

fn model(name: &str, loss: Loss, items: usize, length: usize) -> Epoch {
    let rng = XorShiftRng::from_seed([42; 16]);
    if name == "lstm" {
        let mut model = lstm::Hyperparameters::new(items, length)
            .lstm_variant(lstm::LSTMVariant::Normal)
            .embedding_dim(DIMENSION)
            .learning_rate(RATE)
            .l2_penalty(L2)
            .loss(loss)
            .optimizer(Optimizer::Adagrad)
            .num_epochs(1)
            .num_threads(1)
            .rng(rng)
            .build();
        Box::new(move |data| {
            model.fit(data).expect("fit");
        })
    } else {
        let mut model = ewma::Hyperparameters::new(items, length)
            .embedding_dim(DIMENSION)
            .learning_rate(RATE)
            .l2_penalty(L2)
            .loss(loss)
            .optimizer(Optimizer::Adagrad)
            .num_epochs(1)
            .num_threads(1)
            .rng(rng)
            .build();
        Box::new(move |data| {
            model.fit(data).expect("fit");
        })
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let data = interactions(&arguments[4]);
    let loss = if arguments[2] == "warp" { Loss::WARP } else { Loss::Hinge };
    let mut epoch = model(&arguments[1], loss, data.num_items(), arguments[3].parse().expect("length"));
    let data = data.to_compressed();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "first" {
            println!("unknown");
        } else {
            let number = |n: usize| words[n].parse::<usize>().unwrap();
            for _ in number(1)..number(2) {
                epoch(&data);
            }
            println!("done");
        }
        io::stdout().flush().unwrap();
    }
}
