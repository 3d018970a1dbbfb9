import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend } from './backend.fixture.ts';
import type { Backend, BackendState } from './backend.ts';
import { BackendList, BackendPart } from './backend-list.ts';

let seed = 5;
const random = (below: number): number => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return seed % below;
};

const states: readonly BackendState[] = ['active', 'active', 'terminating', 'unhealthy'];
/** Parts of backends that no two have in common: of some that may be kept from before, and of new ones. */
function randomParts(before: readonly BackendPart[]): BackendPart[] {
  return Array.from({ length: 5 }, (_, n) => {
    const present = before[n];
    if (present && random(3)) return present;
    const members = Array.from({ length: random(5) }, (_, at) => ({
      ...backend(n * 100 + random(3) * 10 + at),
      state: states[random(states.length)]!,
    }));
    return new BackendPart(members);
  });
}
/** The same backends, cut elsewhere. */
const cut = (list: readonly Backend[]): BackendList => {
  const at = random(list.length + 1);
  return new BackendList([new BackendPart(list.slice(0, at)), new BackendPart(list.slice(at))]);
};

test('a list in parts is what one in a single piece would be, after random changes', () => {
  let parts = randomParts([]);
  let [equal, different] = [0, 0];
  for (let round = 0; round < 2000; round++) {
    const before = new BackendList(parts);
    parts = randomParts(parts);
    const list = new BackendList(parts);
    const [was, is] = [[...before], [...list]];
    assert.equal(list.length, is.length);
    assert.deepEqual(
      list.map((each, at) => [each, at]),
      is.map((each, at) => [each, at]),
    );
    for (const state of ['active', 'terminating', 'unhealthy'] as const) {
      const some = is.filter(each => each.state === state);
      assert.deepEqual([...list.only(state)], some);
      assert.equal(list.has(state), some.length > 0);
      assert.ok(list.only(state).equals(new BackendList(parts).only(state)));
    }
    const same = JSON.stringify(was) === JSON.stringify(is);
    if (same) equal++;
    else different++;
    assert.equal(list.equals(before), same);
    assert.ok(list.equals(cut(is)) && cut(is).equals(list));
    const { removed, added } = list.since(random(2) ? before : cut(was));
    const [wasKeys, isKeys] = [was, is].map(each => new Set(each.map(({ key }) => key)));
    const keys = (all: readonly Backend[]): string[] => all.map(({ key }) => key);
    assert.deepEqual(
      keys(removed),
      keys(was).filter(key => !isKeys!.has(key)),
    );
    assert.deepEqual(
      keys(added),
      keys(is).filter(key => !wasKeys!.has(key)),
    );
  }
  assert.ok(equal > 50 && different > 50, `${equal} equal, ${different} different`);
});

test('where one part of many is another, nobody looks into the rest', () => {
  const parts = Array.from(
    { length: 100 },
    (_, n) => new BackendPart(Array.from({ length: 100 }, (_, at) => backend(n * 100 + at))),
  );
  const before = new BackendList(parts);
  // Nothing of a part that is in both is read: reading would fail.
  for (const [n, part] of parts.entries())
    if (n !== 70)
      Object.defineProperty(part, 'backends', { get: () => assert.fail(`part ${n} was looked at`) });
  const changed = parts[70]!.backends.with(3, backend(20_000));
  const after = new BackendList(parts.with(70, new BackendPart(changed)));
  assert.equal(after.only('active'), after);
  assert.equal(after.equals(before), false);
  const { removed, added } = after.since(before);
  assert.deepEqual([removed, added], [[parts[70]!.backends[3]], [backend(20_000)]]);
});
