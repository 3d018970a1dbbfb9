import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Affinity } from '../api/annotations.ts';
import { preferByAffinity, usable } from './affinity.ts';
import type { Backend, BackendState } from './backend.ts';
import { BackendList } from './backend-list.ts';

const make = (cluster: string, ...states: BackendState[]): Backend[] =>
  states.map((state, i) => ({
    key: `${cluster || 'own'}-${i}-${state}`,
    addr: `10.${cluster ? 2 : 1}.0.${i}`,
    port: 80,
    protocol: 'TCP',
    cluster,
    node: '',
    state,
  }));

/** Given and returned as arrays. */
const preferred = (affinity: Affinity, local: readonly Backend[], remote: readonly Backend[]): Backend[] => [
  ...preferByAffinity(affinity, BackendList.of(local), BackendList.of(remote)),
];
const used = (backends: readonly Backend[]): Backend[] => [...usable(BackendList.of(backends))];

const locals = {
  active: make('', 'active', 'terminating', 'unhealthy'),
  terminating: make('', 'terminating', 'unhealthy'),
  unhealthy: make('', 'unhealthy'),
  none: [],
};
const remotes = { healthy: make('eu', 'active', 'unhealthy'), unhealthy: make('eu', 'unhealthy'), none: [] };

/** The truth table of Cilium's clustermesh affinity: L local ones are candidates, R remote ones are. */
const table: readonly [Affinity, keyof typeof locals, healthy: string, unhealthy: string, none: string][] = [
  ['none', 'active', 'LR', 'LR', 'L'],
  ['none', 'terminating', 'LR', 'LR', 'L'],
  ['none', 'unhealthy', 'LR', 'LR', 'L'],
  ['none', 'none', 'R', 'R', ''],
  ['local', 'active', 'L', 'L', 'L'],
  ['local', 'terminating', 'LR', 'L', 'L'],
  ['local', 'unhealthy', 'LR', 'L', 'L'],
  ['local', 'none', 'R', '', ''],
  ['remote', 'active', 'R', 'LR', 'L'],
  ['remote', 'terminating', 'R', 'LR', 'L'],
  ['remote', 'unhealthy', 'R', 'R', ''],
  ['remote', 'none', 'R', 'R', ''],
];

for (const [affinity, local, healthy, unhealthy, none] of table)
  for (const [remote, want] of [
    ['healthy', healthy],
    ['unhealthy', unhealthy],
    ['none', none],
  ] as const)
    test(`affinity ${affinity}: local ${local}, remote ${remote} → ${want || 'nothing'}`, () => {
      const got = preferred(affinity, locals[local], remotes[remote]);
      const expected = [
        ...(want.includes('L') ? locals[local] : []),
        ...(want.includes('R') ? remotes[remote] : []),
      ];
      assert.deepEqual(got, expected);
    });

test('affinity remote: own backends help out where those of the others only terminate', () => {
  const remote = make('eu', 'terminating');
  assert.deepEqual(preferred('remote', locals.active, remote), [...locals.active, ...remote]);
  assert.deepEqual(preferred('remote', locals.unhealthy, remote), remote);
});

test('new connections avoid terminating backends while an active one is there', () => {
  const [active, terminating] = make('', 'active', 'terminating') as [Backend, Backend];
  assert.deepEqual(used([terminating, active]), [active]);
  assert.deepEqual(used([terminating, ...make('eu', 'unhealthy')]), [terminating]);
  assert.deepEqual(used(make('', 'unhealthy')), []);
});
