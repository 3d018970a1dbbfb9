import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAGLEV_SIZES, maglevTable, placesOf } from './maglev.ts';

const names = (count: number): string[] =>
  Array.from({ length: count }, (_, n) => `10.1.${n >> 8}.${n & 255}/8080/TCP`);
const table = (backends: readonly string[], size = 16381): string[] =>
  Array.from(maglevTable(backends, size), at => backends[at]!);

test('sizes are primes', () => {
  for (const size of MAGLEV_SIZES)
    for (let divisor = 2; divisor * divisor <= size; divisor++)
      assert.notEqual(size % divisor, 0, `${size} = ${divisor} × …`);
});

test('every entry has a backend, and shares differ little', t => {
  for (const count of [1, 2, 3, 10, 100, 160]) {
    const shares = new Map<string, number>();
    for (const name of table(names(count))) shares.set(name, (shares.get(name) ?? 0) + 1);
    assert.equal(shares.size, count);
    const [least, most] = [Math.min(...shares.values()), Math.max(...shares.values())];
    t.diagnostic(`${count} backends: ${least} to ${most} of 16381 entries`);
    assert.ok(most - least <= 1, 'turns are equal, so shares differ by one at most');
  }
  assert.deepEqual(table([]), []);
});

test('the order in which backends are known does not matter', () => {
  const all = names(20);
  assert.deepEqual(table(all.toReversed()), table(all));
});

test('one backend of many leaves: few entries change besides its own', t => {
  for (const count of [3, 10, 100]) {
    const all = names(count);
    const before = table(all);
    let [own, others, rounds] = [0, 0, 0];
    for (let gone = 0; gone < count; gone += Math.ceil(count / 10)) {
      rounds++;
      const after = table(all.toSpliced(gone, 1));
      for (const [entry, name] of before.entries()) {
        if (name === all[gone]) own++;
        else if (after[entry] !== name) others++;
      }
    }
    const share = (value: number): string => `${((value / rounds / before.length) * 100).toFixed(2)} %`;
    t.diagnostic(`1 of ${count} leaves: ${share(own)} of connections must move, ${share(others)} more do`);
    // The paper's figure for this size: below 2 % for hundreds of backends.
    assert.ok(others / rounds / before.length < 0.02);
  }
});

test('random changes of some backends keep nearly all connections that can be kept', () => {
  let seed = 3;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % n;
  };
  const all = names(60);
  for (let round = 0; round < 20; round++) {
    const before = all.filter(() => random(2) === 0);
    const after = before.filter(() => random(20) > 0);
    if (after.length === 0) continue;
    const [a, b] = [table(before), table(after)];
    const kept = new Set(after);
    const moved = a.filter((name, entry) => kept.has(name) && b[entry] !== name).length;
    const lost = 1 - after.length / before.length;
    assert.ok(moved / a.length <= lost + 0.02, `${moved} of ${a.length} moved, ${lost} lost`);
  }
});

test('a backend gets entries by its weight', () => {
  const table = maglevTable(['a', 'b', 'c'], 16_381, [1, 3, 12]);
  const counts = [0, 0, 0];
  for (const at of table) counts[at]! += 1;
  assert.deepEqual(
    counts.map(each => Math.round((each / table.length) * 16)),
    [1, 3, 12],
  );
});

/** The paper's algorithm as it is written: each backend's whole permutation first, then turn by turn. */
function slowTable(backends: readonly string[], size: number, weights: readonly number[]): number[] {
  const permutation = new Map(
    backends.map(name => {
      const [offset, skip] = placesOf(name, size);
      return [name, Array.from({ length: size }, (_, n) => (offset + n * skip) % size)];
    }),
  );
  const table = new Array<number | undefined>(size).fill(undefined);
  for (let turn = 0; table.includes(undefined); turn++)
    for (const name of [...backends].sort()) {
      const at = backends.indexOf(name);
      if (turn % Math.max(1, ...weights) >= (weights[at] ?? 1)) continue;
      const free = permutation.get(name)!.find(entry => table[entry] === undefined);
      if (free !== undefined) table[free] = at;
    }
  return table as number[];
}

test('random cases agree with the algorithm as the paper writes it', () => {
  let seed = 11;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % n;
  };
  const all = names(40);
  for (let round = 0; round < 60; round++) {
    const backends = all.filter(() => random(4) === 0).sort(() => random(3) - 1);
    if (backends.length === 0) continue;
    const size = MAGLEV_SIZES[random(2)]!;
    const weights = round % 2 ? [] : backends.map(() => 1 + random(4));
    const found = [...maglevTable(backends, size, weights)];
    assert.deepEqual(found, slowTable(backends, size, weights), `${backends} ${weights}`);
  }
});
