import assert from 'node:assert/strict';
import { test } from 'node:test';
import { saidOnce } from './said-once.ts';

const lines = (...sayings: readonly (readonly [place: string, message: string])[]): string[] =>
  saidOnce(sayings.map(([place, message]) => ({ place, message }))).map(
    ({ places, message }) => `${places}: ${message}`,
  );

test('what several say is said once, whatever its age and the order of addresses that were tried', () => {
  assert.deepEqual(
    lines(
      [
        'a',
        'eu: dead for 5 s: tcp: 10.0.0.1:1: no answer after 3000 ms; 10.0.0.2:1: no answer after 3000 ms',
      ],
      [
        'b',
        'eu: dead for 6 s: tcp: 10.0.0.2:1: no answer after 3000 ms; 10.0.0.1:1: no answer after 3000 ms',
      ],
    ),
    ['a, b: eu: dead for 5 s: tcp: 10.0.0.1:1: no answer after 3000 ms; 10.0.0.2:1: no answer after 3000 ms'],
  );
});

test('of many places some are named, each once', () => {
  assert.deepEqual(lines(...['a', 'b', 'c', 'd', 'a'].map(place => [place, 'x'] as const)), [
    'a, b, c, d: x',
  ]);
  assert.deepEqual(lines(...['a', 'b', 'c', 'd', 'e'].map(place => [place, 'x'] as const)), [
    'a, b, c and 2 more: x',
  ]);
});

test('two objects whose names differ in a digit alone are two problems', () => {
  assert.deepEqual(
    lines(
      ['a', 'value refused: cilium/state/ip/v1/default/10.1.0.5: no JSON'],
      ['a', 'value refused: cilium/state/ip/v1/default/10.1.0.6: no JSON'],
    ).length,
    2,
  );
});
