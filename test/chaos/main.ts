/**
 * `npm run chaos`: breaks nodes and clusters under load and measures for how long clients see it. Makes its own lab;
 * `-- --lab NAME` uses one that is there, `--keep` leaves it, further words choose scenarios by a part of their name.
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { fault } from '../../src/lab/fault.ts';
import { makeBed, PER_SECOND } from './bed.ts';
import { PATIENCE } from './client.ts';
import { type Row, scenarios } from './scenarios.ts';

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { lab: { type: 'string', default: 'chaos' }, keep: { type: 'boolean', default: false } },
  });
  const chosen = scenarios.filter(
    ({ name }) => !positionals.length || positionals.some(part => name.includes(part)),
  );
  const say = (line: string): void => console.error(line);
  await using bed = await makeBed({ lab: values.lab, keep: values.keep, report: say });
  const rows: Row[] = [];
  for (const scenario of chosen) {
    say(scenario.name);
    try {
      rows.push(...(await scenario.run(bed)));
    } finally {
      await fault(values.lab, { kind: 'heal' });
    }
  }
  process.stdout.write(
    `${PER_SECOND} requests per second and client, each of at most ${PATIENCE / 1000} s\n`,
  );
  process.stdout.write(`${tableText(rows)}\n`);
  return rows.every(isKept) ? 0 : 1;
}

const isKept = ({ cost, limit }: Row): boolean => cost.until <= limit;

function tableText(rows: readonly Row[]): string {
  const table = new Table({
    head: ['', 'fault', 'client in', 'failed', 'errors until', 'promise', 'seen'],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    const { what, client, cost, limit, note } = row;
    table.push([
      isKept(row) ? '✔' : '✘',
      what,
      client,
      `${cost.failed} of ${cost.requests}`,
      cost.until ? `${cost.until.toFixed(2)} s` : '–',
      limit === 0 ? 'none' : `≤ ${limit} s`,
      note,
    ]);
  }
  return table.toString();
}

process.exitCode = await main();
