import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonLines } from './json-lines.ts';

test('lines are the same however they are cut', () => {
  const values = [{ a: 1 }, { text: 'grüße\n' }, [], 'x'.repeat(1000)];
  const bytes = Buffer.from(values.map(each => `${JSON.stringify(each)}\n`).join(''));
  for (let size = 1; size < bytes.length + 1; size += size < 20 ? 1 : 97) {
    const got: unknown[] = [];
    const feed = jsonLines(value => got.push(value));
    for (let at = 0; at < bytes.length; at += size) feed(bytes.subarray(at, at + size));
    assert.deepEqual(got, values, `chunks of ${size}`);
  }
});

test('a large line in small chunks costs linear time', () => {
  const chunk = Buffer.from('1'.repeat(64));
  let got = 0;
  const feed = jsonLines(() => got++);
  feed(Buffer.from('"'));
  for (let n = 0; n < 100_000; n++) feed(chunk);
  feed(Buffer.from('"\n'));
  assert.equal(got, 1);
});
