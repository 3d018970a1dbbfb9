import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../api/config.ts';
import { agentConfigSchema } from './config.ts';

test('an empty ConfigMap is the defaults', () => {
  const config = parseConfig(agentConfigSchema, {});
  assert.equal(config['cluster-name'], 'default');
  assert.equal(config['tunnel-port'], 8472);
  assert.deepEqual(config['prometheus-serve-addr'], { host: '0.0.0.0', port: 9962 });
  assert.equal(config['enable-ipv4'], true);
});

test('what the chart writes is understood', () => {
  const config = parseConfig(agentConfigSchema, {
    'cluster-name': 'eu',
    'cluster-id': '2',
    devices: 'eth0 eth1',
    'prometheus-serve-addr': '',
    'some-key-of-the-operator': 'x',
  });
  assert.deepEqual(config.devices, ['eth0', 'eth1']);
  assert.equal(config['prometheus-serve-addr'], undefined);
});

const bad: readonly [Record<string, string>, RegExp][] = [
  [{ 'cluster-id': 'two' }, /cluster-id: expected a whole number, found "two"/],
  [{ 'cluster-id': '300' }, /cluster-id: expected 0 to 255 \(max-connected-clusters\), found "300"/],
  [{ 'cluster-id': '2' }, /cluster-name: expected a name of its own.*found nothing/],
  [{ 'cluster-name': 'EU_west' }, /cluster-name: expected at most 32.*found "EU_west"/],
  [{ 'routing-mode': 'native' }, /routing-mode: .*tunnel.*found "native"/],
  [{ 'cni-exclusive': 'yes' }, /cni-exclusive: .*found "yes"/],
  [
    { 'prometheus-serve-addr': 'localhost' },
    /prometheus-serve-addr: expected \[address\]:port, found "localhost"/,
  ],
];
for (const [entries, message] of bad)
  test(`refused: ${JSON.stringify(entries)}`, () => {
    assert.throws(() => parseConfig(agentConfigSchema, entries), message);
  });
