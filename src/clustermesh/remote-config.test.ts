import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRemoteConfig, parseRemoteConfig } from './remote-config.ts';
import { parseRemoteUsers } from './remote-users.ts';

const files = 'trusted-ca-file: /x/ca.crt\ncert-file: /x/tls.crt\nkey-file: /x/tls.key\n';
const tls = { ca: '/x/ca.crt', cert: '/x/tls.crt', key: '/x/tls.key' };

test('host aliases in both the forms charts have written', () => {
  const forms = [
    'cilium-host-aliases:\n- hostname: eu.mesh.cilium.io\n  ips: [172.18.2.2, 172.18.2.3]\n',
    'cilium-host-aliases:\n  eu.mesh.cilium.io: [172.18.2.2, 172.18.2.3]\n',
  ];
  for (const aliases of forms) {
    const text = `endpoints:\n- https://eu.mesh.cilium.io:32379\n${aliases}${files}`;
    assert.ok(isRemoteConfig(text));
    assert.deepEqual(parseRemoteConfig('eu', text), {
      cluster: 'eu',
      tls,
      endpoints: ['172.18.2.2', '172.18.2.3'].map(host => ({
        host,
        port: 32379,
        serverName: 'eu.mesh.cilium.io',
      })),
    });
  }
});

test('addresses without aliases, IPv6 too', () => {
  const { endpoints } = parseRemoteConfig(
    'eu',
    `endpoints: ["https://[fd00::2]:2379", "https://eu:443"]\n${files}`,
  );
  assert.deepEqual(endpoints, [
    { host: 'fd00::2', port: 2379, serverName: undefined },
    { host: 'eu', port: 443, serverName: 'eu' },
  ]);
});

const wrong: [name: string, text: string, message: RegExp][] = [
  ['EU', `endpoints: [https://a]\n${files}`, /cluster name: found "EU", expected 1 to 32/],
  ['eu', `endpoints: []\n${files}`, /^Error: endpoints: expected at least one address/],
  ['eu', 'endpoints: [https://a]\ntrusted-ca-file: /x\ncert-file: /x\n', /^Error: key-file: /],
  ['eu', `endpoints: [https://a\n${files}`, /^Error: no YAML: /],
  ['eu', `endpoints: [http://a:2379]\n${files}`, /found "http:\/\/a:2379", expected https/],
];
for (const [name, text, message] of wrong)
  test(`refused: ${name} ${JSON.stringify(text.slice(0, 40))}`, () => {
    assert.throws(() => parseRemoteConfig(name, text), message);
  });

test('certificates beside the configurations are none', () => {
  assert.equal(isRemoteConfig('-----BEGIN CERTIFICATE-----\n'), false);
});

test('users of remote clusters', () => {
  assert.deepEqual(
    parseRemoteUsers('users:\n- name: remote-eu\n  role: remote\n- {name: remote-ap, role: remote}\n'),
    ['eu', 'ap'],
  );
  assert.deepEqual(parseRemoteUsers('users:\n'), []);
  assert.deepEqual(parseRemoteUsers(''), []);
  assert.throws(() => parseRemoteUsers('users: [{name: admin-eu, role: remote}]'), /found user "admin-eu"/);
  assert.throws(() => parseRemoteUsers('users: [{name: remote-eu, role: root}]'), /of role root/);
});
