import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend } from './backend.fixture.ts';
import { BackendPart } from './backend-list.ts';
import { Union } from './union.ts';

test('parts have nothing in common unless two have the same backend, after random changes', () => {
  let seed = 5;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const union = new Union();
  const parts = Array.from({ length: 4 }, () => new BackendPart([]));
  let together = 0;
  for (let round = 0; round < 2000; round++) {
    const first = random(60);
    parts[random(4)] = new BackendPart(Array.from({ length: random(12) }, (_, n) => backend(first + n)));
    const all = parts.flatMap(part => part.backends);
    const isUnique = new Set(all.map(each => each.key)).size === all.length;
    if (isUnique) together++;
    assert.equal(union.isDisjoint(parts), isUnique);
  }
  assert.ok(together > 100 && together < 1900, `${together}`);
});
