import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPrefix, parsePrefix } from '../datapath/address.ts';
import { canonicalPrefix } from './prefix.ts';

test('a prefix has one text', () => {
  for (const [text, canonical] of [
    ['10.1.2.3/8', '10.0.0.0/8'],
    [' 10.1.2.3 ', '10.1.2.3/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['255.255.255.255/1', '128.0.0.0/1'],
    ['FD00:0:0:1::5/48', 'fd00::/48'],
    ['::/0', '::/0'],
    ['8000::/1', '8000::/1'],
    ['fd00::1', 'fd00::1/128'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3/128'],
  ] as const) {
    assert.equal(canonicalPrefix(text), canonical);
    assert.equal(formatPrefix(parsePrefix(canonical)), canonical, 'the same as the maps give back');
  }
});

test('what is no prefix', () => {
  for (const text of [
    '',
    '10.0.0.0/33',
    '10.0.0/8',
    '::/129',
    '10.0.0.0/8/8',
    '10.0.0.0/',
    'a.b',
    '10.0.0.0/-1',
  ])
    assert.equal(canonicalPrefix(text), undefined, text);
});
