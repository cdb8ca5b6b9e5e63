//! W1 to W4 by the original, the Rust crate wyrm.
//!
//! `wyrm-original WORKLOAD FOLDER` reads the data from files of the folder, then obeys lines on the standard input, as
//! benchmarks/peers/protocol.py does: `first N` prints the sum of the first N losses of a model of its own; `run START STOP`
//! trains on these examples and prints `done`.

#[cfg(feature = "blas")]
extern crate blas_src;
#[macro_use]
extern crate ndarray;

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use wyrm::nn::losses::sparse_categorical_crossentropy;
use wyrm::nn::lstm;
use wyrm::optim::{Optimizer, SGD};
use wyrm::{Arr, DataInput, IndexInputNode, InputNode, Node, ParameterNode, Variable};

const EMBEDDED: usize = 16;
const HIDDEN: usize = 32;
const CLASSES: usize = 10;
const LONGEST: usize = 20;

/// The files of a data folder, each one array.
struct Folder(PathBuf);

impl Folder {
    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let bytes = fs::read(self.0.join(name)).expect(name);
        bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]).collect()
    }

    fn reals(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn indices(&self, name: &str) -> Vec<usize> {
        self.words(name).into_iter().map(|word| i32::from_le_bytes(word) as usize).collect()
    }

    fn matrix(&self, name: &str, columns: usize) -> Arr {
        let values = self.reals(name);
        Arr::from_shape_vec((values.len() / columns, columns), values).expect(name)
    }
}

/// A step of training on the example of this number; returns the loss.
type Step = Box<dyn FnMut(usize) -> f32>;

fn train<T>(loss: &mut Variable<T>, optimizer: &SGD) -> f32
where
    T: Node<Value = Arr, InputGradient = Arr>,
{
    loss.forward();
    loss.backward(1.0);
    let value = loss.value()[(0, 0)];
    optimizer.step(loss.parameters());
    loss.zero_gradient();
    value
}

fn regression(data: &Folder) -> Step {
    let (xs, ys) = (data.reals("x"), data.reals("y"));
    let slope = ParameterNode::new(Arr::zeros((1, 1)));
    let intercept = ParameterNode::new(Arr::zeros((1, 1)));
    let (x, y) = (InputNode::new(Arr::zeros((1, 1))), InputNode::new(Arr::zeros((1, 1))));
    let mut loss = (y.clone() - (slope * x.clone() + intercept)).square();
    let optimizer = SGD::new().learning_rate(0.1);
    Box::new(move |n: usize| {
        x.set_value(xs[n]);
        y.set_value(ys[n]);
        train(&mut loss, &optimizer)
    })
}

fn factorization(data: &Folder) -> Step {
    let (users, items, ratings) = (data.indices("users"), data.indices("items"), data.reals("ratings"));
    let user_table = ParameterNode::new(data.matrix("user_table", 32));
    let item_table = ParameterNode::new(data.matrix("item_table", 32));
    let (user, item) = (IndexInputNode::new(&[0]), IndexInputNode::new(&[0]));
    let rating = InputNode::new(Arr::zeros((1, 1)));
    let score = user_table.index(&user).vector_dot(&item_table.index(&item));
    let mut loss = (rating.clone() - score).square();
    let optimizer = SGD::new().learning_rate(0.01);
    Box::new(move |n: usize| {
        user.set_value(users[n]);
        item.set_value(items[n]);
        rating.set_value(ratings[n]);
        train(&mut loss, &optimizer)
    })
}

/// LSTM parameters with given values: by way of JSON, as their fields are private.
fn lstm_parameters(data: &Folder) -> lstm::Parameters {
    let made = lstm::Parameters::new(EMBEDDED, HIDDEN, &mut rand::thread_rng());
    let mut json = serde_json::to_value(&made).expect("parameters as JSON");
    let (weights, biases) = (data.matrix("weights", 4 * HIDDEN), data.matrix("biases", 4 * HIDDEN));
    for (n, gate) in ["forget", "update_gate", "output_gate", "update_value"].iter().enumerate() {
        for (kind, values) in [("weights", &weights), ("biases", &biases)].iter() {
            let part = values.slice(s![.., (n * HIDDEN) as isize..((n + 1) * HIDDEN) as isize]);
            json[format!("{}_{}", gate, kind)]["value"]["data"] = part.iter().cloned().collect::<Vec<f32>>().into();
        }
    }
    serde_json::from_value(json).expect("parameters from JSON")
}

fn sequences(data: &Folder, rebuild: bool) -> Step {
    let (sequences, lengths) = (data.indices("sequences"), data.indices("lengths"));
    let parameters = lstm_parameters(data);
    let embedding = ParameterNode::new(data.matrix("embedding", EMBEDDED));
    let output_weights = ParameterNode::new(data.matrix("output_weights", CLASSES));
    let output_biases = ParameterNode::new(data.matrix("output_biases", CLASSES));
    let optimizer = SGD::new().learning_rate(0.05);
    let build = move |tokens: &[Variable<IndexInputNode>], following: &Variable<IndexInputNode>| {
        let embedded: Vec<_> = tokens.iter().map(|token| embedding.index(token)).collect();
        let hidden = parameters.build().forward(&embedded);
        let logits = hidden.last().unwrap().dot(&output_weights) + output_biases.clone();
        sparse_categorical_crossentropy(&logits, following)
    };
    if rebuild {
        return Box::new(move |n: usize| {
            let tokens = &sequences[n * (LONGEST + 1)..];
            let nodes: Vec<_> = tokens[..lengths[n]].iter().map(|&token| IndexInputNode::new(&[token])).collect();
            let mut loss = build(&nodes, &IndexInputNode::new(&[tokens[lengths[n]]]));
            train(&mut loss, &optimizer)
        });
    }
    let (nodes, following): (Vec<_>, _) = ((0..4).map(|_| IndexInputNode::new(&[0])).collect(), IndexInputNode::new(&[0]));
    let mut loss = build(&nodes, &following);
    Box::new(move |n: usize| {
        let tokens = &sequences[n * (LONGEST + 1)..];
        for (node, &token) in nodes.iter().zip(tokens) {
            node.set_value(token);
        }
        following.set_value(tokens[4]);
        train(&mut loss, &optimizer)
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let data = Folder(PathBuf::from(&arguments[2]));
    let make = || match arguments[1].as_str() {
        "w1" => regression(&data),
        "w2" => factorization(&data),
        "w3" => sequences(&data, false),
        "w4" => sequences(&data, true),
        other => panic!("there is no workload {}", other),
    };
    let mut step = make();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |n: usize| words[n].parse::<usize>().unwrap();
        if words[0] == "first" {
            let mut fresh = make();
            println!("{}", (0..number(1)).map(|n| f64::from(fresh(n))).sum::<f64>());
        } else {
            for n in number(1)..number(2) {
                step(n);
            }
            println!("done");
        }
        io::stdout().flush().unwrap();
    }
}
