import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RemoteEntries } from './remote-entries.ts';

test('every refused value is counted; a hundred are kept for status, and one that is told again is no other', () => {
  const said: string[] = [];
  const entries = new RemoteEntries({
    cluster: 'eu',
    maxClusters: 255,
    consumer: { kinds: [], writer: () => ({ put: () => undefined, delete: () => undefined }) },
    onListed: () => undefined,
    onRefused: key => said.push(key),
  });
  for (let at = 0; at < 150; at++) entries.refuse(`key ${at}`, new Error('no JSON'));
  assert.deepEqual([entries.refusals, Object.keys(entries.refused).length, said.length], [150, 100, 150]);
  entries.refuse('key 0', new Error('no JSON'));
  assert.equal(entries.refusals, 150);
  entries.refuse('key 0', new Error('another reason'));
  assert.equal(entries.refusals, 151);
  entries.accept('key 0');
  assert.equal(Object.keys(entries.refused).length, 99);
});
