/** Version of the reference agent, the package's own; goes to the API as `client_version` and into HELLO. */
export const AGENT_VERSION = '0.1.0';

/** Name of the reference agent in HELLO. */
export const AGENT_NAME = 'traffic-share-agent';
