import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseConfig } from '../../src/lab/config.ts';
import { down, up } from '../../src/lab/lab.ts';
import { labNames } from '../../src/lab/state.ts';

const usage = `usage: npm run outside [-- OPTION…] [FILE…]

Makes a cluster of both families in a lab and asks its services from outside, in each load balancer mode.

  --lab NAME   name of the lab (default outside); one that is up is used as it is
  --keep       leave the lab up
`;

/** `npm run outside`: makes the lab, runs the test files one after another, takes the lab down. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      lab: { type: 'string', default: 'outside' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const name = values.lab;
  process.env.KUBECONFIG ??= `/tmp/isthmus-${name}.kubeconfig`;
  const report = (line: string): void => console.error(line);
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const { signal } = interrupt;
  const files = positionals.length ? positionals : globSync(join(import.meta.dirname, '*.test.ts')).sort();
  const there = labNames().includes(name);
  try {
    if (!there) {
      const config = parseConfig([{ path: name, text: JSON.stringify(kindDocument) }]);
      await up({ name, config, install: true, join: false, images: [], report, signal });
    }
    const tests = spawn(process.execPath, ['--test', '--test-concurrency=1', ...files], {
      stdio: 'inherit',
      env: { ...process.env, ISTHMUS_TEST_LAB: name },
      signal,
    });
    const [code] = (await once(tests, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    if (!there && !values.keep) await down({ name, report });
  }
}

const kindDocument = {
  apiVersion: 'kind.x-k8s.io/v1alpha4',
  kind: 'Cluster',
  name: 'us',
  networking: { ipFamily: 'dual' },
  nodes: [{ role: 'control-plane' }, { role: 'worker' }, { role: 'worker' }],
};

process.exitCode = await main();
