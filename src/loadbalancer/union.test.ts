import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend } from './backend.fixture.ts';
import type { Backend } from './backend.ts';
import { Union } from './union.ts';

test('a union is what the parts are one after the other, unless two have the same, after random changes', () => {
  let seed = 5;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const union = new Union();
  const parts: (readonly Backend[])[] = [[], [], [], []];
  let together = 0;
  for (let round = 0; round < 2000; round++) {
    const first = random(60);
    parts[random(4)] = Array.from({ length: random(12) }, (_, n) => backend(first + n));
    const all = parts.flat();
    const isUnique = new Set(all.map(each => each.key)).size === all.length;
    if (isUnique) together++;
    assert.deepEqual(union.of(parts), isUnique ? all : undefined);
  }
  assert.ok(together > 100 && together < 1900, `${together}`);
});
