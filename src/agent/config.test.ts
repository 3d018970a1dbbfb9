import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAgentConfig } from './config.ts';

test('an empty ConfigMap is the defaults', () => {
  const config = parseAgentConfig({});
  assert.equal(config['cluster-name'], 'default');
  assert.equal(config['tunnel-port'], 8472);
  assert.deepEqual(config['prometheus-serve-addr'], { host: '', port: 9962 });
  assert.deepEqual(config['node-port-range'], { first: 30000, last: 32767 });
});

test('what the chart writes is understood', () => {
  const config = parseAgentConfig({
    'cluster-name': 'eu',
    'cluster-id': '2',
    devices: 'eth0 eth1',
    'prometheus-serve-addr': '',
    'bpf-lb-map-max': '65536',
    'some-key-of-the-operator': 'x',
  });
  assert.deepEqual(config.devices, ['eth0', 'eth1']);
  assert.equal(config['bpf-lb-map-max'], 65536);
  assert.equal(config['bpf-nat-global-max'], undefined);
  assert.equal(config['prometheus-serve-addr'], undefined);
});

const bad: readonly [Record<string, string>, RegExp][] = [
  [{ 'cluster-id': 'two' }, /cluster-id: found "two", expected a whole number/],
  [{ 'cluster-id': '300' }, /cluster-id: found "300", expected 0 to 255 \(max-connected-clusters\)/],
  [{ 'cluster-id': '2' }, /cluster-name: found "default", expected a name of its own/],
  [{ 'cluster-name': 'EU_west' }, /cluster-name: found "EU_west", expected 1 to 32/],
  [{ 'tunnel-unpack': 'kernel' }, /tunnel-unpack: found "kernel", expected program or device/],
  [{ 'routing-mode': 'direct' }, /routing-mode: found "direct", expected one of tunnel, native, hybrid/],
  [
    { 'subnet-topology': '10.0.0.0' },
    /subnet-topology: found "10.0.0.0", expected prefixes as .*"10.0.0.0" is none/,
  ],
  [{ 'non-masquerade-cidrs': '10.0.0.0/33' }, /non-masquerade-cidrs: found "10.0.0.0\/33"/],
  [{ 'bpf-lb-mode': 'annotation' }, /bpf-lb-mode: found "annotation", expected one of snat, dsr, hybrid/],
  [{ 'bpf-lb-mode': 'hybrid' }, /bpf-lb-mode: found hybrid, expected snat, because routing-mode is tunnel/],
  [
    { 'bpf-lb-mode': 'dsr', 'routing-mode': 'native', 'bpf-lb-dsr-dispatch': 'geneve' },
    /bpf-lb-dsr-dispatch: found "geneve", expected opt/,
  ],
  [{ 'cni-exclusive': 'yes' }, /cni-exclusive: found "yes", expected true or false/],
  [
    { 'l2-announcements-lease-duration': '3s' },
    /l2-announcements-renew-deadline: found 5s, expected less than l2-announcements-lease-duration \(3s\)/,
  ],
  [{ 'prometheus-serve-addr': 'localhost' }, /prometheus-serve-addr: found "localhost", expected host:port/],
];
for (const [entries, message] of bad)
  test(`refused: ${JSON.stringify(entries)}`, () => {
    assert.throws(() => parseAgentConfig(entries), message);
  });
