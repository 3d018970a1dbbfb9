import assert from 'node:assert/strict';
import { it } from 'node:test';
import { formatIp, parseCidr, parseIp } from './ip-address.ts';

it('an address has one text', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8::1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::', '::'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['fe80::1%eth0', undefined],
    ['192.0.2', undefined],
    ['192.0.2.01', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) {
    const ip = parseIp(text);
    assert.equal(ip && formatIp(ip), expected, text);
  }
});

it('a prefix is from its first to its last address', () => {
  const ends = (text: string): readonly string[] | undefined => {
    const range = parseCidr(text);
    return range && [formatIp(range.first), formatIp(range.last)];
  };
  assert.deepEqual(ends('192.0.2.77/26'), ['192.0.2.64', '192.0.2.127']);
  assert.deepEqual(ends('192.0.2.1/32'), ['192.0.2.1', '192.0.2.1']);
  assert.deepEqual(ends('0.0.0.0/0'), ['0.0.0.0', '255.255.255.255']);
  assert.deepEqual(ends('2001:db8::/126'), ['2001:db8::', '2001:db8::3']);
  for (const bad of ['192.0.2.1', '192.0.2.1/33', '192.0.2.1/', '192.0.2.1/24/1', 'x/8', '2001:db8::/129'])
    assert.equal(ends(bad), undefined, bad);
});
