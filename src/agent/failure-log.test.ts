import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FailureLog } from './failure-log.ts';

test('a full map does not fill the log: ten lines, then how many more there were', () => {
  const lines: object[] = [];
  let now = 0;
  const log = { warn: (fields: object) => void lines.push(fields) };
  const failures = new FailureLog(log as ConstructorParameters<typeof FailureLog>[0], () => now);
  for (let n = 0; n < 1000; n++) failures.say('ipcache', `10.2.0.${n}/32`, new Error('E2BIG'), 1);
  assert.equal(lines.length, 10);
  now = 11_000;
  failures.say('ipcache', 'x', new Error('E2BIG'), 2);
  assert.deepEqual(lines.slice(10), [
    { failures: 990 },
    { what: 'ipcache', key: 'x', attempt: 2, error: 'E2BIG' },
  ]);
});
