//! The numbers by which depmod sorts dependencies.

/// The number of a module in a circle, or needed by one.
pub(super) const UNNUMBERED: u32 = u32::MAX;

/// Numbers modules so that each comes before those that it needs (depmod.c:depmod_calculate_dependencies): a stack, of
/// which the last one is taken, so that the order is neither the array's nor one by depth.
pub(super) fn numbers(needs: &[Vec<u32>]) -> Vec<u32> {
    let mut users = vec![0u32; needs.len()];
    for &needed in needs.iter().flatten() {
        users[needed as usize] += 1;
    }
    let mut stack: Vec<u32> = (0..needs.len() as u32).filter(|&at| users[at as usize] == 0).collect();
    let mut numbers = vec![UNNUMBERED; needs.len()];
    let mut next = 0;
    while let Some(at) = stack.pop() {
        numbers[at as usize] = next;
        next += 1;
        for &needed in &needs[at as usize] {
            users[needed as usize] -= 1;
            if users[needed as usize] == 0 {
                stack.push(needed);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_without_users_comes_first() {
        // 0 needs 2 and 3, 1 needs 3.
        assert_eq!(numbers(&[vec![2, 3], vec![3], vec![], vec![]]), [1, 0, 3, 2]);
    }

    #[test]
    fn circles_have_no_numbers() {
        assert_eq!(numbers(&[vec![1], vec![0], vec![]]), [UNNUMBERED, UNNUMBERED, 0]);
    }
}
