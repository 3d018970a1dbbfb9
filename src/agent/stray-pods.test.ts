import assert from 'node:assert/strict';
import { test } from 'node:test';
import { strayPodWarnings } from './stray-pods.ts';

const pod = (podName: string, ipv4: string, ipv6?: string) => ({
  namespace: 'shop',
  podName,
  ipv4,
  gateway: '10.1.2.1',
  ...(ipv6 && { ipv6, gateway6: 'fd00:10:1:2::1' }),
});

test('pods that a Node registered anew does not reach are named', () => {
  const cidrs = ['10.1.2.0/24', 'fd00:10:1:2::/64'];
  assert.deepEqual(strayPodWarnings([pod('a', '10.1.2.9', 'fd00:10:1:2::9')], cidrs), []);
  const [warning = ''] = strayPodWarnings([pod('a', '10.1.2.9'), pod('b', '10.1.1.9')], cidrs);
  assert.match(warning, /outside of the node's pod CIDR 10\.1\.2\.0\/24, fd00:10:1:2::\/64: shop\/b;/);
  const many = ['b', 'c', 'd', 'e', 'f'].map(name => pod(name, '10.1.2.9', 'fd00:10:1:1::9'));
  assert.match(strayPodWarnings(many, cidrs)[0] ?? '', /: shop\/b, shop\/c, shop\/d and 2 more;/);
});
