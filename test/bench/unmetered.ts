/**
 * Loaded in front of the built programs (`node --import`) by the system `traffic-share-unmetered` alone: the gateway
 * that follows relays without metering and journal, so that the difference between both systems is what they cost.
 * No build contains this file, and no setting of the product leads to it.
 */
import { pathToFileURL } from 'node:url';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterBinding } from '../../gateway/metering/meter.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

const meter = (await import(pathToFileURL(projectPath('dist/gateway/metering/meter.js')).href)) as {
  MeterBinding: { prototype: MeterBinding };
};
meter.MeterBinding.prototype.countUp = () => Verdict.GO;
meter.MeterBinding.prototype.countDown = () => Verdict.GO;
