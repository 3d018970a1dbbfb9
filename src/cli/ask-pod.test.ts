import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complaint } from './ask-pod.ts';

test('a command that failed in a pod is told by its sentence, its last log line or its exit code', () => {
  assert.equal(complaint('Error: the agent is still starting\n💡 wait\n', 1), 'the agent is still starting');
  const logged = [
    '{"level":30,"msg":"connected to etcd"}',
    '{"level":60,"msg":"failed","error":{"message":"no leader"}}',
  ];
  assert.equal(complaint(logged.join('\n'), 1), 'failed: no leader');
  assert.equal(complaint('\n', 137), 'exit code 137');
});
