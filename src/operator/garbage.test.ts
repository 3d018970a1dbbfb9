import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { IdentityRow } from '../api/crds/cilium-identity.ts';
import { judgeIdentities, orphanedEndpoints, TwiceSeen } from './garbage.ts';

const now = Date.parse('2026-01-01T12:00:00Z');
const options = { range: { min: 65_792, max: 131_071 }, timeout: 60_000, now };

function identity(number: number, unusedSince = ''): IdentityRow {
  const text = `k8s:n=${number};`;
  return {
    identity: number,
    labels: {},
    text,
    uid: `u${number}`,
    resourceVersion: '1',
    created: '',
    unusedSince,
  };
}

function endpoint(name: string, podUid: string, number = 0): EndpointObjectRow {
  return {
    namespace: 'default',
    name,
    uid: `u-${name}`,
    podUid,
    identity: number,
    addresses: [],
    nodeIp: '',
    encryptionKey: 0,
    serviceAccount: '',
    leaving: false,
  };
}

test('identities: marked, then removed after the timeout, unmarked when used again', () => {
  const verdict = judgeIdentities(
    [
      identity(70_000),
      identity(70_001),
      identity(70_002, '2026-01-01T11:59:30Z'),
      identity(70_003, '2026-01-01T11:58:00Z'),
      identity(70_004, '2026-01-01T11:58:00Z'),
      identity(70_005, 'rubbish'),
      identity(140_000),
    ],
    [endpoint('a', '', 70_000), endpoint('b', '', 70_004)],
    options,
  );
  const numbers = (rows: readonly IdentityRow[]) => rows.map(each => each.identity);
  assert.deepEqual(numbers(verdict.mark), [70_001, 70_005]);
  assert.deepEqual(numbers(verdict.unmark), [70_004]);
  assert.deepEqual(numbers(verdict.remove), [70_003]);
  assert.equal(verdict.alive, 2);
});

test('endpoints: the pod is gone, or another of its name is there', () => {
  const pods = new Map(
    ['kept', 'replaced', 'unowned'].map(name => [
      `default/${name}`,
      { namespace: 'default', name, uid: `p-${name}` },
    ]),
  );
  const rows = [
    endpoint('kept', 'p-kept'),
    endpoint('replaced', 'older'),
    endpoint('gone', 'p-gone'),
    endpoint('unowned', ''),
  ];
  assert.deepEqual(
    orphanedEndpoints(rows, key => pods.get(key)).map(each => each.name),
    ['replaced', 'gone'],
  );
});

test('only what is left over in two rounds running goes', () => {
  const seen = new TwiceSeen();
  const a = { uid: 'a' };
  assert.deepEqual(seen.confirm([a]), []);
  assert.deepEqual(seen.confirm([]), []);
  assert.deepEqual(seen.confirm([a]), []);
  assert.deepEqual(seen.confirm([a]), [a]);
});
