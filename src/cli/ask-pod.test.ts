import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '../failure.ts';
import { complaint } from './ask-pod.ts';
import { askEach, type NodeSource } from './node-source.ts';

test('a command that failed in a pod is told by its sentence, its last log line or its exit code', () => {
  assert.equal(complaint('Error: the agent is still starting\n💡 wait\n', 1), 'the agent is still starting');
  const logged = [
    '{"level":30,"msg":"connected to etcd"}',
    '{"level":60,"msg":"failed","error":{"message":"no leader"}}',
  ];
  assert.equal(complaint(logged.join('\n'), 1), 'failed: no leader');
  assert.equal(complaint('\n', 137), 'exit code 137');
});

test('a node that does not answer is left out of a list, and said; where none answers, that is why', async () => {
  const dead = (node: string): NodeSource => ({
    node,
    run: () => Promise.reject(new Failure(`node ${node}: its kubelet is not reached`)),
  });
  const alive: NodeSource = { node: 'n1', run: async () => 'rows' };
  const told: string[] = [];
  const tell = (line: string): void => void told.push(line);
  const ask = ({ run }: NodeSource): Promise<string> => run('agent', 'endpoints');
  assert.deepEqual(await askEach([alive, dead('n2')], ask, tell), ['rows']);
  assert.deepEqual(told, ['⚠️  left out: node n2: its kubelet is not reached']);
  await assert.rejects(askEach([dead('n1'), dead('n2')], ask, tell), /node n1: its kubelet is not reached/);
  assert.deepEqual(await askEach([], ask, tell), []);
});
