import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readReport, resultsTable } from './report.ts';

const spec = (text: string, state: string, message?: string, type = 'It'): object => ({
  ContainerHierarchyTexts: ['[sig-network] Services'],
  LeafNodeType: type,
  LeafNodeText: text,
  State: state,
  RunTime: 1_500_000_000,
  ...(message === undefined ? {} : { Failure: { Message: message, Location: {} } }),
});

function reportOf(...specs: object[]): string {
  return JSON.stringify([{ SuitePath: '/', SpecialSuiteFailureReasons: null, SpecReports: specs }]);
}

test('specs that failed come first, with their reason in one line', () => {
  const { results } = readReport(
    reportOf(spec('serves', 'passed'), spec('waits', 'timedout', 'no answer\n  after 2m')),
    [],
  );
  assert.equal(
    resultsTable(results),
    'failed\t1.5\t[sig-network] Services waits\tno answer after 2m\n' +
      'passed\t1.5\t[sig-network] Services serves\t\n',
  );
});

test('a spec that skips itself says why; one that was not selected is no result', () => {
  const { results } = readReport(
    reportOf(spec('wants six nodes', 'skipped', 'skipped - need 6'), spec('not asked for', 'skipped')),
    [],
  );
  assert.deepEqual(
    results.map(({ spec: text, outcome, reason }) => [text, outcome, reason]),
    [['[sig-network] Services wants six nodes', 'skipped', 'skipped - need 6']],
  );
});

test('a suite that could not start, and specs it never came to, are failures although no spec failed', () => {
  const failed = { ...spec('', 'failed', 'nodes are not ready', 'SynchronizedBeforeSuite') };
  const { results, suiteFailures } = readReport(
    reportOf({ ...failed, ContainerHierarchyTexts: null }, spec('serves', 'skipped')),
    ['[sig-network] Services serves'],
  );
  assert.deepEqual(results, []);
  assert.deepEqual(suiteFailures, [
    'SynchronizedBeforeSuite: nodes are not ready',
    '1 specs were not run: [sig-network] Services serves',
  ]);
});
