use super::*;
use std::collections::VecDeque;

/// The same as plainly as it can be said: every chunk as it came.
#[derive(Default)]
struct Plain {
    chunks: VecDeque<Remembered>,
    until: u64,
    floor: u64,
}

impl Plain {
    fn look(&self, number: u64, count: u32) -> Known {
        if number >= self.until {
            return Known::New;
        }
        let until = number.saturating_add(u64::from(count));
        let overlaps = |c: &&Remembered| c.number < until && number < c.until();
        match self.chunks.iter().rev().find(overlaps) {
            Some(chunk) if (chunk.number, chunk.count) == (number, count) => Known::Repeat(*chunk),
            Some(_) => Known::Mixed,
            None if number < self.floor || self.until - number > PRODUCER_WINDOW => Known::Forgotten,
            None => Known::New,
        }
    }

    fn add(&mut self, chunk: Remembered) {
        self.until = self.until.max(chunk.until());
        let same =
            |c: &Remembered| (c.number, c.run, c.first_seq) == (chunk.number, chunk.run, chunk.first_seq);
        if !self.chunks.iter().rev().take(2).any(same) {
            self.chunks.push_back(chunk);
        }
        self.drop_old();
    }

    fn drop_old(&mut self) {
        let until = self.until;
        let is_old = |c: &Remembered| c.until().saturating_add(PRODUCER_WINDOW) < until;
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(is_old) {
            self.chunks.pop_front();
        }
    }

    fn retain(&mut self, keep: impl Fn(&Remembered) -> bool) {
        self.chunks.retain(keep);
        self.until = self.chunks.iter().map(Remembered::until).max().unwrap_or(0);
    }

    /// Forgets chunks from the front until `left` remain.
    fn forget(&mut self, left: usize) {
        let dropped = self.chunks.len() - left;
        self.floor = self.chunks.drain(..dropped).map(|c| c.until()).fold(self.floor, u64::max);
        self.drop_old();
    }
}

/// Numbers that look drawn, the same each time.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Mostly what follows; sometimes a number sent before, or far ahead, or one of the last there are.
    fn chunk(&mut self, last: &Remembered) -> Remembered {
        let number = match self.below(60) {
            0 => last.number,
            1 => last.until().saturating_sub(self.below(3000)),
            2 => last.until().saturating_add(self.below(2000)),
            3 if self.below(200) == 0 => u64::MAX - self.below(4),
            _ => last.until(),
        };
        let is_other_run = self.below(100) == 0;
        Remembered {
            number,
            count: if self.below(4) == 0 { 1 + self.below(300) as u32 } else { 1 },
            run: if is_other_run { RunId(self.below(u64::MAX)) } else { last.run },
            first_seq: Seq(if is_other_run {
                self.below(50)
            } else {
                next_seq(last) + self.below(3) * self.below(900)
            }),
            first_time: Timestamp(last.first_time.0.wrapping_add(self.below(1 << 24))),
            step: last.step + self.below(3),
        }
    }
}

fn compare(window: &Window, plain: &Plain, drawn: &mut Drawn) {
    assert!(window.chunks().eq(plain.chunks.iter().copied()));
    assert_eq!(window.floor(), plain.floor);
    assert!(window.held() >= plain.chunks.len());
    let some = plain.chunks.iter().map(|chunk| (chunk.number, chunk.count));
    let stride = 1 + drawn.below(40) as usize;
    let asked: Vec<_> = (0..20)
        .map(|_| (plain.until.saturating_sub(drawn.below(3000)), 1 + drawn.below(40) as u32))
        .chain(some.step_by(stride))
        .chain([(plain.until, 1), (0, 1), (u64::MAX, 2)])
        .collect();
    for (number, count) in asked {
        assert_eq!(window.look(number, count), plain.look(number, count), "{number} and {count}");
    }
}

#[test]
fn a_window_answers_as_a_plain_list_of_chunks_would() {
    for seed in 0..20 {
        let mut drawn = Drawn(seed);
        let (mut window, mut plain) = (Window::default(), Plain::default());
        let mut snapshot: Option<(Window, Vec<Remembered>)> = None;
        let mut last = Remembered { step: 1, ..NONE };
        for _ in 0..2500 {
            match drawn.below(1000) {
                0..3 => {
                    let step = last.step.saturating_sub(drawn.below(40));
                    window.retain(|chunk| chunk.step < step);
                    plain.retain(|chunk| chunk.step < step);
                }
                3 => {
                    let some = 2 + drawn.below(5);
                    window.retain(|chunk| chunk.first_seq.0 % some > 0);
                    plain.retain(|chunk| chunk.first_seq.0 % some > 0);
                }
                4..7 => {
                    let (before, dropped) = (window.held(), window.forget_half());
                    assert_eq!((window.held(), dropped), (before - before / 2, before / 2));
                    plain.forget(window.all().count().min(plain.chunks.len()));
                }
                7..10 => snapshot = Some((window.clone(), window.chunks().collect())),
                10..30 => compare(&window, &plain, &mut drawn),
                _ => {
                    let chunk = drawn.chunk(&last);
                    last = if chunk.number > u64::MAX / 2 { last } else { chunk };
                    window.add(chunk);
                    plain.add(chunk);
                }
            }
        }
        compare(&window, &plain, &mut drawn);
        if let Some((window, chunks)) = snapshot {
            assert!(window.chunks().eq(chunks), "a snapshot stays as it was");
        }
    }
}

#[test]
fn a_snapshot_copies_no_more_than_the_open_block() {
    let mut window = Window::default();
    let mut last = NONE;
    let mut drawn = Drawn(7);
    for number in 0..1000 {
        last = Remembered { number, count: 1, ..drawn.chunk(&last) };
        window.add(last);
    }
    let snapshot = window.clone();
    let pairs = window.sealed.iter().zip(&snapshot.sealed);
    assert!(window.sealed.len() > 10 && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(&a.bytes, &b.bytes)));
    assert!(snapshot.open.bytes.len() < BLOCK_CHUNKS * CHUNK_BYTES_MAX);
}
