import type { Command } from 'commander';
import { Failure } from '../failure.ts';
import { parseDelay, parseLoss, parseRate } from '../lab/config.ts';
import { describeFault, type FaultOrder, fault } from '../lab/fault.ts';
import { openLab } from '../lab/open-lab.ts';
import { named } from './lab.ts';

const targetHelp = `
TARGET is a cluster (us), a node (us/worker), or a process: us:etcd, us:apiserver, us:controller-manager,
us:scheduler, us:operator, us:coredns, us:mesh-etcd, us:mesh-apiserver, us:mesh-mirror, us/worker:agent,
us/worker:kubelet, us/worker:containerd. LINK is the path between two clusters: us-eu.`;

/** `isthmus lab fault …` */
export function registerFaults(lab: Command): void {
  const faults = named(lab.command('fault'))
    .description('Break things, and heal them; alone it lists the faults in force')
    .addHelpText('after', targetHelp)
    .action((_options: object, command: Command) =>
      list(openLab(labOf(command)).state.faults.map(describeFault)),
    );

  faults
    .command('status')
    .description('List the faults in force')
    .action((_options: object, command: Command) =>
      list(openLab(labOf(command)).state.faults.map(describeFault)),
    );

  faults
    .command('cut <target>')
    .description(
      'Drop all packets of a node, those between a cluster and the others, of a link, or to an API server',
    )
    .option('--to <target>', 'only packets from TARGET to this cluster, node, or host')
    .option('--from <target>', 'only packets from this cluster, node, or host to TARGET')
    .addHelpText('after', targetHelp)
    .action((target: string, options: { readonly to?: string; readonly from?: string }, command: Command) =>
      order(command, {
        kind: 'cut',
        target,
        ...(options.to === undefined ? {} : { to: options.to }),
        ...(options.from === undefined ? {} : { from: options.from }),
      }),
    );

  for (const [kind, description] of [
    ['pause', 'Stop all processes of a cluster or a node, or one process, without ending them'],
    ['resume', 'Let what was paused go on'],
    ['kill', 'End a process with SIGKILL; a node or a cluster as a power cut does'],
    ['restart', 'Start a process again; a node or a cluster as by its reset button'],
  ] as const) {
    faults
      .command(`${kind} <target>`)
      .description(description)
      .addHelpText('after', targetHelp)
      .action((target: string, _options: object, command: Command) => order(command, { kind, target }));
  }

  faults
    .command('heal [target]')
    .description('Undo the faults of a target or a link, or all')
    .action((target: string | undefined, _options: object, command: Command) =>
      order(command, { kind: 'heal', target }),
    );

  faults
    .command('slow <link> <time>')
    .description('Delay the packets of a link, each way: 40ms')
    .action((link: string, time: string, _options: object, command: Command) =>
      order(command, {
        kind: 'slow',
        link,
        milliseconds: read(time, parseDelay, 'a time such as 40ms'),
      }),
    );

  faults
    .command('lose <link> <share>')
    .description('Lose a share of the packets of a link, each way: 1%')
    .action((link: string, share: string, _options: object, command: Command) =>
      order(command, { kind: 'lose', link, percent: read(share, parseLoss, 'a share such as 1%') }),
    );

  faults
    .command('rate <link> <rate>')
    .description('Limit a link, each way: 100mbit')
    .action((link: string, rate: string, _options: object, command: Command) =>
      order(command, {
        kind: 'rate',
        link,
        bitsPerSecond: read(rate, parseRate, 'a rate such as 100mbit'),
      }),
    );
}

async function order(command: Command, what: FaultOrder): Promise<void> {
  list((await fault(labOf(command), what)).map(describeFault));
}

/** --name may stand anywhere on the line: it belongs to `fault`. */
function labOf(command: Command): string {
  return command.optsWithGlobals<{ readonly name: string }>().name;
}

function list(faults: readonly string[]): void {
  process.stdout.write(faults.length === 0 ? 'no faults\n' : faults.map(each => `${each}\n`).join(''));
}

function read(text: string, parse: (text: string) => number | undefined, like: string): number {
  const value = parse(text);
  if (value === undefined) throw new Failure(`found "${text}", expected ${like}`, { exitCode: 2 });
  return value;
}
