"""Committers that race and are killed, in short. `./test.sh fleet` makes it long."""

from __future__ import annotations

import os
import unittest

from fleet_case import Fleet, FleetCase, environment_of
from kills import race
from servers import KEYS, seaweedfs


class KillsTest(FleetCase):
    def test_in_a_directory_each_line_arrives_once(self) -> None:
        self.assertEqual(race(self.fleet, 6), "")


@unittest.skipUnless("SAFELIGHT_WEED" in os.environ, "SAFELIGHT_WEED is not set")
class S3KillsTest(unittest.TestCase):
    def test_in_a_bucket_each_line_arrives_once(self) -> None:
        with seaweedfs(os.environ["SAFELIGHT_WEED"]) as endpoint:
            environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint}
            with environment_of(environment):
                fleet = Fleet("s3://media/with/prefix", environment)
                self.assertEqual(race(fleet, 6), "")
                # Keys are not repeated.
                fleet.environment = {**environment, "AWS_SECRET_ACCESS_KEY": "wrong/secret"}
                code, out, err = fleet.run("fold", fleet.url, fleet.table_url)
                self.assertEqual((code, out), (1, ""))
                self.assertIn("cannot open the table s3://media/with/prefix/catalog", err)
                self.assertNotIn("wrong/secret", err)


if __name__ == "__main__":
    unittest.main()
