//! Arithmetic in GF(2^8) with the polynomial 0x11d, on bytes and on whole symbols.

mod combinations;
mod cosets;
mod vectors;

pub(super) use combinations::add_combinations;
pub(super) use cosets::{COSET, CosetTargets, add_coset_sums};

const fn multiply(a: u8, b: u8) -> u8 {
    let (mut power, mut rest, mut product) = (a, b, 0);
    while rest != 0 {
        if rest & 1 != 0 {
            product ^= power;
        }
        power = (power << 1) ^ (if power & 0x80 != 0 { 0x1d } else { 0 });
        rest >>= 1;
    }
    product
}

/// The powers of the generator 2, by their exponents.
const POWERS: [u8; 256] = {
    let mut table = [1; 256];
    let mut exponent = 1;
    while exponent < 256 {
        table[exponent] = multiply(table[exponent - 1], 2);
        exponent += 1;
    }
    table
};

/// The exponents of the powers of 2, by the powers: the inverse of [`POWERS`].
const LOGARITHMS: [u8; 256] = {
    let mut table = [0; 256];
    let mut exponent = 0;
    while exponent < 255 {
        table[POWERS[exponent] as usize] = exponent as u8;
        exponent += 1;
    }
    table
};

/// A product of elements other than zero, kept as the sum of their logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product(u32);

impl Product {
    /// The product of `elements`; `None` if one of them is zero.
    pub(super) fn of(elements: impl IntoIterator<Item = u8>) -> Option<Self> {
        elements.into_iter().try_fold(Self(0), |product, element| {
            let logarithm = LOGARITHMS[usize::from(element)];
            // A product has a few thousand factors at most, so that the sum fits 32 bits.
            (element != 0).then(|| Self(product.0 + u32::from(logarithm)))
        })
    }

    /// The quotient of `self` and `other`.
    pub(super) fn over(self, other: Self) -> Self {
        Self(self.0 % 255 + 255 - other.0 % 255)
    }

    /// The product of `self` and `other`.
    pub(super) fn times(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The product as a field element.
    pub(super) fn value(self) -> u8 {
        POWERS[(self.0 % 255) as usize]
    }
}

/// The inverse of each element; zero for zero, which has none.
const INVERSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut exponent = 0;
    while exponent < 255 {
        table[POWERS[exponent] as usize] = POWERS[255 - exponent];
        exponent += 1;
    }
    table
};

/// The inverse of `value`, which must not be zero.
pub(super) const fn inverse(value: u8) -> u8 {
    INVERSES[value as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `len` pseudorandom bytes.
    pub(super) fn bytes(len: usize, seed: u32) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) ^ seed).to_be_bytes()[1]).collect()
    }

    #[test]
    fn field_arithmetic() {
        assert_eq!(multiply(2, 0x80), 0x1d);
        for value in 1..=255 {
            assert_eq!(multiply(value, inverse(value)), 1);
            let product = Product::of([value, 2]).unwrap();
            assert_eq!(product.value(), multiply(value, 2));
            assert_eq!(product.times(product).value(), multiply(product.value(), product.value()));
            assert_eq!(product.over(product.times(product)).value(), inverse(product.value()));
        }
        assert!(Product::of([1, 0, 2]).is_none());
    }
}
