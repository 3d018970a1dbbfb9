import assert from 'node:assert/strict';
import { test } from 'node:test';
import { derivedName } from './derived-name.ts';

// What Go's encoding/base32 makes of the same names, as Cilium does.
for (const [namespace, name, expected] of [
  ['bank', 'ledger', 'derived-iuf3eieqtf'],
  ['default', 'web', 'derived-gapqrqeg1j'],
  ['shop', 'cart', 'derived-bsqa4s8pq5'],
] as const)
  test(`${namespace}/${name}`, () => assert.equal(derivedName(namespace, name), expected));
