import assert from 'node:assert/strict';
import { it } from 'node:test';
import { compileSelector, labelSelector } from './label-selector.ts';

const compile = (selector: unknown) =>
  compileSelector(labelSelector.nullish().parse(selector), 'spec.selector');

it('a selector selects as Kubernetes says', () => {
  const red = { colour: 'red', size: '1' };
  const cases: readonly (readonly [unknown, boolean])[] = [
    [null, true],
    [{}, true],
    [{ matchLabels: { colour: 'red' } }, true],
    [{ matchLabels: { colour: 'red', size: '2' } }, false],
    [{ matchExpressions: [{ key: 'colour', operator: 'In', values: ['blue', 'red'] }] }, true],
    [{ matchExpressions: [{ key: 'shape', operator: 'In', values: ['round'] }] }, false],
    [{ matchExpressions: [{ key: 'shape', operator: 'NotIn', values: ['round'] }] }, true],
    [{ matchExpressions: [{ key: 'colour', operator: 'NotIn', values: ['red'] }] }, false],
    [{ matchExpressions: [{ key: 'size', operator: 'Exists' }] }, true],
    [{ matchExpressions: [{ key: 'size', operator: 'DoesNotExist' }] }, false],
    [{ matchExpressions: [{ key: 'toString', operator: 'Exists' }] }, false],
    [
      { matchLabels: { colour: 'red' }, matchExpressions: [{ key: 'size', operator: 'DoesNotExist' }] },
      false,
    ],
  ];
  for (const [selector, expected] of cases)
    assert.equal(compile(selector)(red), expected, JSON.stringify(selector));
});

it('values that do not fit the operator are named', () => {
  assert.throws(
    () => compile({ matchExpressions: [{ key: 'a', operator: 'NotIn' }] }),
    /^Error: spec\.selector\.matchExpressions\[0\]\.values: found 0 values, expected at least one with operator NotIn$/,
  );
  assert.throws(
    () => compile({ matchExpressions: [{ key: 'a', operator: 'Exists', values: ['x'] }] }),
    /values: found 1 values, expected none with operator Exists$/,
  );
});
