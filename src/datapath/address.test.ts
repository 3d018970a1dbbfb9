import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, formatPrefix, parse, parsePrefix } from './address.ts';

test('addresses keep their text', () => {
  for (const text of ['10.1.2.3', '0.0.0.0', '255.255.255.255', '::', '::1', 'fd00::1:2', '2001:db8::1'])
    assert.equal(format(parse(text)), text);
  assert.deepEqual([...parse('10.1.2.3')], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 2, 3]);
  assert.deepEqual([...parse('::')], new Array(16).fill(0));
});

test('prefixes are counted in the 128 bits of the mapped address and masked', () => {
  assert.equal(parsePrefix('10.1.2.3/24').length, 120);
  assert.equal(formatPrefix(parsePrefix('10.1.2.3/24')), '10.1.2.0/24');
  assert.equal(formatPrefix(parsePrefix('10.1.2.3')), '10.1.2.3/32');
  assert.equal(formatPrefix(parsePrefix('10.1.255.3/21')), '10.1.248.0/21');
  assert.equal(formatPrefix(parsePrefix('0.0.0.0/0')), '0.0.0.0/0');
  assert.equal(formatPrefix(parsePrefix('fd00:1:2:3::/48')), 'fd00:1:2::/48');
});

test('anything else is refused', () => {
  for (const text of ['', '10.1.2', '10.1.2.3/33', '10.1.2.3/', '10.1.2.3/a', '10.1.2.3/8/8'])
    assert.throws(() => parsePrefix(text), /not a(n IP address| prefix)/, text);
});
