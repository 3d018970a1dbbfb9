import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { packageRoot } from '../package-root.ts';
import { type FlagSet, flagBits, flagNames } from './flag-names.ts';

it('flags are named as in bpf/types.h', () => {
  const text = readFileSync(join(packageRoot, 'bpf/types.h'), 'utf8');
  const macros = new Map(
    [...text.matchAll(/^#define ([A-Z0-9_]+) (\d+)\b/gm)].map(([, name, bit]) => [name!, Number(bit)]),
  );
  for (const set of ['ENDPOINT', 'NODE', 'FRONTEND', 'CONNTRACK', 'NAT'] as const satisfies FlagSet[])
    for (const [name, bit] of Object.entries(flagBits(set)))
      assert.equal(macros.get(`${set}_${name}`), bit, `${set}_${name}`);
});

it('bits without a name are shown as a number', () => {
  assert.equal(flagNames('FRONTEND', 2 | 16 | 0x8000), 'nodeport two-scopes 0x8000');
  assert.equal(flagNames('NAT', 0), '');
});
