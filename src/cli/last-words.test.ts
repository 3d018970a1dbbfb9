import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lastWords } from './last-words.ts';

test('the last failure of the log is the reason', () => {
  const log = [
    '{"level":30,"time":"2026-01-01T00:00:00Z","msg":"agent started"}',
    '{"level":60,"msg":"agent failed","error":{"name":"Error","message":"configuration: mtu: found \\"x\\""}}',
    '{"level":30,"msg":"stopped"}',
  ].join('\n');
  assert.equal(lastWords(log), 'agent failed: configuration: mtu: found "x"');
});

test('an uncaught exception is found in what Node prints', () => {
  const log = `node:internal/modules/cjs/loader:1595
  throw err;
  ^

Error: Cannot find module '/isthmus/dist/agent.mjs'
    at Module._resolveFilename (node:internal/modules/cjs/loader:1591:15) {
  code: 'MODULE_NOT_FOUND'
}

Node.js v26.10.0
`;
  assert.equal(lastWords(log), "Error: Cannot find module '/isthmus/dist/agent.mjs'");
});

test('of anything else it is the last line', () => {
  assert.equal(lastWords('one\ntwo\n\n'), 'two');
  assert.equal(lastWords(''), '');
});

test('the last of what went well is no reason', () => {
  assert.equal(lastWords('{"level":30,"msg":"pod added"}\n'), '');
});
